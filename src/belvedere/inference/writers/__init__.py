"""Predictions as CSV, JSON, JSON lines and Parquet."""
