"""Training: the only part of Belvedere that needs torch.

Everything else works from the model file it writes, so nothing but the command line and the public face imports it, and
they only when asked to train.
"""
