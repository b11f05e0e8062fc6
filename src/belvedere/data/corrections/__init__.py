"""Corrections files: decisions on labels, and how they are applied."""
