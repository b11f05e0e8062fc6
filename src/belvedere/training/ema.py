"""The moving average of a network's weights, which answers better than the last ones (Polyak and Juditsky 1992).

Knows weights and batch-norm statistics; does not know how they change.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """An average over the last steps; those further back count less by `decay` a step."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay = network, decay
        self.tensors: dict[str, Tensor] = {}  # empty until the first update

    @torch.no_grad()
    def update(self) -> None:
        """Takes the network's weights into the average."""
        present = self._averaged()
        if self.tensors:
            pairs = [(average, present[name]) for name, average in self.tensors.items()]
            averages, weights = map(list, zip(*pairs, strict=True))
            torch._foreach_lerp_(averages, weights, 1 - self._decay)
        else:
            self.tensors = {name: weights.clone() for name, weights in present.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back the tensors of an earlier average."""
        present = self._averaged()
        self.tensors = {name: torch.empty_like(present[name]).copy_(value) for name, value in tensors.items()}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Lets the network answer with the average while the block runs."""
        own = {name: weights.clone() for name, weights in self._averaged().items()} if self.tensors else {}
        self._put(self.tensors)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, tensors: dict[str, Tensor]) -> None:
        present = self._averaged()
        for name, values in tensors.items():
            present[name].copy_(values)

    def _averaged(self) -> dict[str, Tensor]:
        return {
            name: values.detach() for name, values in self._network.state_dict().items() if values.is_floating_point()
        }
