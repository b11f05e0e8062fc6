"""Figures, image grids and HTML pages."""
