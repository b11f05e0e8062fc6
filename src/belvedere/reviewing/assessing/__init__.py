"""Serves a local web page for classifying a sample of images, without showing their labels and predictions.

`images` reads and predicts them, `session` keeps the answers and hands out images, `app` handles requests, `output`
makes the result, and `server` starts everything.
"""
