"""Networks trained on tiles, and heads trained on features."""
