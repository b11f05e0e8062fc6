"""Plots, image grids and HTML pages; the only owner of matplotlib."""
