"""Rows to learn from: tiles with labels and sets, and features, windows or pixels that are read for them."""
