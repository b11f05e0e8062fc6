"""Weak slices: groups of images in which the accuracy is significantly lower than elsewhere."""
