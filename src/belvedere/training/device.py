"""Where training runs, and in which precision.

Knows what the processor or GPU can do; does not know what runs on it.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from belvedere.errors import UsageError


@dataclass(frozen=True)
class Hardware:
    """Where a network is trained, and in which precision it multiplies."""

    device: torch.device
    precision: torch.dtype  # torch.bfloat16 or torch.float32

    def autocast(self) -> torch.autocast:
        """Returns the context in which a network computes."""
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)

    @property
    def precision_name(self) -> str:
        """The precision as people write it, such as "bfloat16"."""
        return str(self.precision).removeprefix("torch.")

    @property
    def description(self) -> str:
        """The device as people write it, such as "cpu (AMD EPYC, 2 threads)"."""
        if self.device.type == "cuda":
            return f"cuda ({torch.cuda.get_device_name(self.device)})"
        name = _processor().get("cpu_name") or platform.processor() or platform.machine()
        return f"cpu ({name}, {torch.get_num_threads()} threads)"


def choose_hardware(name: str) -> Hardware:
    """Chooses where to train: "auto" takes a GPU where there is one.

    bfloat16 is taken where the hardware multiplies in it, else float32, which it would be slower than.

    Args:
        name: "auto", "cpu" or "cuda".

    Returns:
        The hardware.

    Raises:
        UsageError: The named device isn't there.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"The device must be auto, cpu or cuda. Received: {name!r}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("There is no CUDA device that torch can use. Take --device cpu, or auto.")
    if name != "cpu" and torch.cuda.is_available():
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        return Hardware(torch.device("cuda"), torch.bfloat16 if able else torch.float32)
    able = bool(_processor().get("avx512_bf16") or _processor().get("amx_bf16"))
    return Hardware(torch.device("cpu"), torch.bfloat16 if able else torch.float32)


def _processor() -> Mapping[str, object]:
    """What torch knows of the processor; versions before 2.10 do not say."""
    found: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return found
