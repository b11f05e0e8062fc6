"""Random degradations of images: blur, noise, JPEG artifacts and fewer pixels."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from belvedere.images.encode import compress_jpeg

MAX_BLUR = 0.02  # standard deviation of the blur, fraction of the size
MAX_NOISE = 30.0  # standard deviation of the noise, of 255
JPEG_QUALITY = (10, 60)
MIN_RESOLUTION = 0.25  # of the pixels along a side


def degrade(pixels: Tensor, prob: float, random: np.random.Generator) -> Tensor:
    """Degrade a fraction of the images, each by one of four methods, with a strength drawn at random.

    Images of other sources differ from a dataset in these (Hendrycks and Dietterich 2019,
    https://arxiv.org/abs/1903.12261).

    Args:
        pixels: (N, 3, H, W), floating point, 0 to 255.
        prob: The fraction.
        random: Generator of all draws but the noise of each pixel.

    Returns:
        Pixels of the same shape and type.
    """
    methods = (_blur, _add_noise, _compress, _reduce)
    drawn = random.integers(0, len(methods), len(pixels))
    drawn[random.random(len(pixels)) >= prob] = len(methods)
    result = pixels.clone()
    for index, method in enumerate(methods):
        rows = torch.from_numpy(np.flatnonzero(drawn == index)).to(pixels.device)
        if len(rows):
            result[rows] = method(pixels[rows].float(), random).to(pixels.dtype)
    return result


def _blur(pixels: Tensor, random: np.random.Generator) -> Tensor:
    """Blur by one Gaussian, whose width is drawn for the batch."""
    deviation = max(0.3, random.uniform(0, MAX_BLUR) * pixels.shape[-1])
    radius = min(int(np.ceil(2.5 * deviation)), pixels.shape[-1] - 1, pixels.shape[-2] - 1)
    offsets = torch.arange(-radius, radius + 1, device=pixels.device, dtype=pixels.dtype)
    weights = torch.exp(-((offsets / deviation) ** 2) / 2)
    kernel = (weights / weights.sum()).expand(3, 1, 1, -1)
    padded = pad(pixels, (radius, radius, radius, radius), mode="reflect")
    return conv2d(conv2d(padded, kernel, groups=3), kernel.mT, groups=3)


def _add_noise(pixels: Tensor, random: np.random.Generator) -> Tensor:
    """Add Gaussian noise, whose standard deviation is drawn for each image."""
    scale = random.uniform(0, MAX_NOISE, (len(pixels), 1, 1, 1)).astype(np.float32)
    noise = random.standard_normal(pixels.shape, np.float32) * scale
    return (pixels + torch.from_numpy(noise).to(pixels.device)).clamp_(0, 255)


def _compress(pixels: Tensor, random: np.random.Generator) -> Tensor:
    """Compress as JPEG, with a quality drawn for each image."""
    images = pixels.clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
    qualities = random.integers(*JPEG_QUALITY, len(images))
    decoded = [compress_jpeg(image, int(quality)) for image, quality in zip(images, qualities, strict=True)]
    return torch.from_numpy(np.stack(decoded)).to(pixels.device).permute(0, 3, 1, 2).float()


def _reduce(pixels: Tensor, random: np.random.Generator) -> Tensor:
    """Reduce to fewer pixels, a number drawn for the batch, and enlarge again."""
    height, width = pixels.shape[-2:]
    scale = random.uniform(MIN_RESOLUTION, 1)
    size = (max(1, round(scale * height)), max(1, round(scale * width)))
    smaller = interpolate(pixels, size, mode="bilinear", antialias=True)
    return interpolate(smaller, (height, width), mode="bilinear")
