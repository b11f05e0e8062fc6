"""Near duplicates among image files."""
