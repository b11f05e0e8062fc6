"""Several processes that train one network together, each on a GPU of this machine, as torch's launcher starts them.

    torchrun --nproc-per-node 2 -m belvedere train PHOTOS

Knows who is who and how to agree; does not know what is learnt. One process alone is a group of one.
"""

import atexit
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

from belvedere.errors import UsageError

PATIENCE = timedelta(days=2)  # the others wait while the first decodes and writes


@dataclass(frozen=True, slots=True)
class Distributed:
    """This process's place among those that train together."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that shows, writes and answers."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Puts into each tensor its mean over all processes."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view(tensor.shape))

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Puts the first process's values into each tensor."""
        if self.count > 1:
            for tensor in tensors:
                held = tensor.contiguous()
                distributed.broadcast(held, 0)
                tensor.copy_(held)

    def wait(self) -> None:
        """Returns when all have come here."""
        if self.count > 1:
            distributed.barrier()

    def agree(self, value: int) -> int:
        """Returns the first process's value."""
        if self.count == 1:
            return value
        held = [value]
        distributed.broadcast_object_list(held)
        return held[0]


def join_ranks(device: str = "auto") -> Distributed:
    """Joins the processes that torch's launcher has started; alone where there is no launcher.

    Args:
        device: Where they will train: "auto", "cpu" or "cuda".

    Raises:
        UsageError: There are more processes than GPUs.
    """
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        return Distributed()
    on_gpus = device != "cpu" and torch.cuda.is_available()
    if not distributed.is_initialized():
        if on_gpus:
            local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
            if local >= gpus:
                raise UsageError(f"More processes than GPUs: start {gpus}, with --nproc-per-node {gpus}.")
            torch.cuda.set_device(local)
        distributed.init_process_group("nccl" if on_gpus else "gloo", timeout=PATIENCE)
        atexit.register(distributed.destroy_process_group)  # its threads must not outlive the interpreter
    return Distributed(distributed.get_rank(), distributed.get_world_size())
