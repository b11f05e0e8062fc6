"""Training: the only package that imports torch."""

from belvedere.runtime.dependencies import require

require("train", "Training or a network")
