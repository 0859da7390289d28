"""Figures of the report, each a file of its own."""
