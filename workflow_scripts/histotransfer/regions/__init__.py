"""Regions drawn on slides, and the share of each tile that they cover."""
