"""Device, precision and processes of a training."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from belvedere.errors import UsageError
from belvedere.runtime.cpus import num_usable_cpus
from belvedere.runtime.progress import Progress
from belvedere.runtime.terminal import count
from belvedere.training.distributed import Distributed


@dataclass(frozen=True)
class Device:
    """A device and the precision of its matrix products."""

    torch_device: torch.device
    precision: torch.dtype  # torch.bfloat16 or torch.float32

    def move_network(self, network: nn.Module) -> None:
        """Move a network to the device, channels_last."""
        network.to(device=self.torch_device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def autocast(self) -> torch.autocast:
        """Return the context of forward passes."""
        return torch.autocast(self.torch_device.type, self.precision, enabled=self.precision != torch.float32)

    @property
    def precision_name(self) -> str:
        """Such as "bfloat16"."""
        return str(self.precision).removeprefix("torch.")

    @property
    def key(self) -> str:
        """Such as "cpu-bfloat16", for the names of cached arrays."""
        return f"{self.torch_device.type}-{self.precision_name}"

    @property
    def description(self) -> str:
        """Such as "cpu (AMD EPYC, 2 threads)"."""
        if self.torch_device.type == "cuda":
            return f"cuda ({torch.cuda.get_device_name(self.torch_device)})"
        name = _cpu_capabilities().get("cpu_name") or platform.processor() or platform.machine()
        return f"cpu ({name}, {count(torch.get_num_threads(), 'thread')})"


@dataclass(frozen=True)
class Runtime:
    """Device and processes of a training, and its progress display."""

    device: Device
    distributed: Distributed = field(default_factory=Distributed)
    progress: Progress = field(default_factory=Progress)


def choose_device(name: str) -> Device:
    """Choose the device, "auto" (a GPU if there is one), "cpu" or "cuda", and bfloat16 where the hardware supports it.

    On a CPU, torch is limited to the CPUs that the process may use: it ignores the quota of a container.

    Raises:
        UsageError: The device is unknown or not available.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"Unknown device: {name!r}. Choose auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("No CUDA device is available to torch. Choose cpu or auto.")
    if name != "cpu" and torch.cuda.is_available():
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return Device(torch.device("cuda"), torch.bfloat16 if supported else torch.float32)
    torch.set_num_threads(min(torch.get_num_threads(), num_usable_cpus()))
    supported = bool(_cpu_capabilities().get("avx512_bf16") or _cpu_capabilities().get("amx_bf16"))
    return Device(torch.device("cpu"), torch.bfloat16 if supported else torch.float32)


def _cpu_capabilities() -> Mapping[str, object]:
    """Return torch's description of the CPU; empty before torch 2.10."""
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return capabilities
