"""Exact and near duplicates of images."""
