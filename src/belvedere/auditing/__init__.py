"""Audit of labeled images: unreadable and odd images, duplicates, split leaks, outliers and label issues."""
