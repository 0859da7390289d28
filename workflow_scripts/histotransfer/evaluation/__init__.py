"""Scores with intervals, rankings, differences and costs."""
