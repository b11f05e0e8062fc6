"""A dataset or run as a map: each image is a point, and images that look alike are close.

`sources` collects the images, `projection` computes their positions, `pairs` finds copies, and `app` serves the page.
"""
