"""Classifiers on features: tuned by cross-validation over groups, fitted, calibrated."""
