"""Two runs on the same photographs: what changed, and whether chance alone explains it.

`paired` is the arithmetic, `runs` brings two runs' answers together, `page` tells a person with pictures.
"""
