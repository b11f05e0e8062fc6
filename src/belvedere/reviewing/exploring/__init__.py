"""A dataset or run as a map: each image is a point, and images that look alike are close.

`sources` collects the images, `projection` places them, `pairs` finds copies, and `app` serves the page.
"""
