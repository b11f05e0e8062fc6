"""Predictions on labeled images to metrics; comparisons of two runs."""
