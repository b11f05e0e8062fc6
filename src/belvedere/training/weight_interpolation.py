"""Interpolation between pretrained and fine-tuned weights: WiSE-FT (Wortsman et al. 2021, arXiv 2109.01903)."""

from torch import Tensor

from belvedere.training.data_loader import DataLoader
from belvedere.training.device import Runtime
from belvedere.training.loop import validate
from belvedere.training.networks.registry import Network

FRACTIONS = (1.0, 0.75, 0.5, 0.25, 0.0)  # of the fine-tuned weights; 0 is the pretrained network with its probe

Weights = dict[str, Tensor]


def interpolate_weights(
    network: Network, start: Weights, end: Weights, validation: DataLoader, runtime: Runtime
) -> tuple[float, Weights]:
    """Return the weights of the lowest calibrated validation loss on the line from `start` to `end`.

    The network contains any of them afterwards.

    Returns:
        The fraction of `end`, and the weights.
    """
    candidates = []
    for fraction in FRACTIONS:
        weights = {
            name: start[name].lerp(value, fraction) if value.is_floating_point() else value
            for name, value in end.items()
        }
        network.load_state_dict(weights)
        candidates.append((validate(network, validation, runtime).calibrated_loss, fraction, weights))
    _, fraction, weights = min(candidates, key=lambda each: each[0])
    return fraction, weights
