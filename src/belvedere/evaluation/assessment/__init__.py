"""Accuracy on true labels, estimated from a sample of images that a person classifies; pure NumPy."""
