"""Weights between a pretrained start and where fine-tuning came to: often better than either.

After WiSE-FT (Wortsman et al. 2021, https://arxiv.org/abs/2109.01903); knows no photographs.
"""

from torch import Tensor

from belvedere.training.data_loader import DataLoader
from belvedere.training.device import Hardware
from belvedere.training.distributed import Distributed
from belvedere.training.loop import validate
from belvedere.training.networks.registry import Network

SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)  # of the end; 0 is the probe of the network as others trained it

Weights = dict[str, Tensor]


def interpolate_weights(
    network: Network, start: Weights, end: Weights, validation: DataLoader, hardware: Hardware, ranks: Distributed
) -> tuple[float, Weights]:
    """Chooses weights on the straight line from a start to an end, by the loss on the validation photographs.

    Args:
        network: Whose weights they are; holds any of them afterwards.
        start: Before fine-tuning.
        end: After it.
        validation: Photographs to choose by.
        hardware: Where they are tried.
        ranks: The processes that try together.

    Returns:
        The share of the end, and the weights.
    """
    tried = []
    for share in SHARES:
        weights = {
            name: start[name].lerp(value, share) if value.is_floating_point() else value for name, value in end.items()
        }
        network.load_state_dict(weights)
        tried.append((validate(network, validation, hardware, ranks).calibrated_loss, share, weights))
    _, share, weights = min(tried, key=lambda each: each[0])
    return share, weights
