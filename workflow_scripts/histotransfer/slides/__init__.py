"""Slides and patches: opened, inspected, tissue found, tiles placed, pixels read."""
