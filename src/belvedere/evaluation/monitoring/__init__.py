"""Comparison of new images with the test images of a run."""
