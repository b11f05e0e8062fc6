"""Practice pictures: scenes drawn by numpy, with the area of every class in them known, alone or as a data set.

Knows scenes, and a folder of them with planted faults; does not know training, nor how a picture is read.
"""
