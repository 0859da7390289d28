"""Networks: the table of architectures, their weights, and models built from them."""
