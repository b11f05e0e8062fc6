"""Synthetic scenes, painted with numpy and Pillow."""
