"""Processes that train one network together, one for each GPU of a machine, as torchrun starts them.

torchrun --nproc-per-node 2 -m belvedere train DATA
"""

import atexit
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from belvedere.errors import UsageError

TIMEOUT = timedelta(days=2)  # the other processes wait while the main one decodes and writes


@dataclass(frozen=True, slots=True)
class Distributed:
    """Rank of this process and number of processes; one process alone communicates with nobody."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process shows progress and writes files."""
        return self.rank == 0

    def data_parallel(self, network: nn.Module) -> nn.Module:
        """Return the module whose backward pass averages the gradients over all processes."""
        if self.world_size == 1:
            return network
        with warnings.catch_warnings():  # torch 2.14 renamed the argument; earlier versions lack the new name
            warnings.simplefilter("ignore", FutureWarning)
            # static_graph: some timm networks have parameters that no output depends on
            return DistributedDataParallel(network, broadcast_buffers=False, static_graph=True)

    def all_reduce_mean(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over all processes."""
        if self.world_size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)
                tensor /= self.world_size

    def broadcast(self, value: int) -> int:
        """Return the value of the main process."""
        values = [value]
        if self.world_size > 1:
            distributed.broadcast_object_list(values)
        return values[0]

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world_size > 1:
            distributed.barrier()

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Run the block in the main process, then in the others, which find its results in the cache."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()


def init_distributed(device: str = "auto") -> Distributed:
    """Join the processes that torchrun has started for "auto", "cpu" or "cuda"; without torchrun there is one process.

    Raises:
        UsageError: There are more processes than GPUs.
    """
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        return Distributed()
    on_gpus = device != "cpu" and torch.cuda.is_available()
    if not distributed.is_initialized():
        if on_gpus:
            local_rank, num_gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
            if local_rank >= num_gpus:
                raise UsageError(f"More processes than GPUs: start torchrun with --nproc-per-node {num_gpus}.")
            torch.cuda.set_device(local_rank)
        distributed.init_process_group("nccl" if on_gpus else "gloo", timeout=TIMEOUT)
        atexit.register(distributed.destroy_process_group)  # its threads must end before the interpreter
    return Distributed(distributed.get_rank(), distributed.get_world_size())
