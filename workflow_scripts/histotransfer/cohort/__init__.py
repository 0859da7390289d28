"""Which slides take part, the labels of their tiles, and the splits of their groups."""
