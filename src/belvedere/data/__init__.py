"""Datasets: folders and tables of labeled images, their content hashes, splits, caches and corrections."""
