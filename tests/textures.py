"""Textures of two kinds, no two alike, for tests that look at pixels."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 120, 90
TONES = {False: (190, 140, 90), True: (90, 170, 80)}


def draw_texture(seed: int, moss: bool, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Spots of many sizes in the color of bark or moss, (height, width, 3)."""
    random = np.random.default_rng(seed)
    light = np.zeros((height, width), np.float32)
    for cells, strength in ((3, 0.22), (7, 0.2), (16, 0.15), (40, 0.12)):
        few = (random.random((cells, cells)) * 255).astype(np.uint8)
        light += strength * np.asarray(Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC)) / 255
    light += random.normal(0, 0.06, light.shape).astype(np.float32)
    tone = np.array(TONES[moss]) + random.normal(0, 8, 3)
    pixels: NDArray[np.uint8] = np.clip((0.35 + 1.4 * light)[:, :, None] * tone, 0, 255).astype(np.uint8)
    return pixels
