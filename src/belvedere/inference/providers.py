"""Devices: the choice of ONNX Runtime's execution providers, and the number of threads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from belvedere.errors import UnknownNameError, UsageError, find_named

DEVICES = ("auto", "cpu", "cuda")
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
Provider = str | tuple[str, dict[str, Any]]  # a name, or a name with options, as ONNX Runtime takes them


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """Device or execution providers of a model, and its threads.

    Raises:
        UnknownNameError: The device is unknown.
        UsageError: The number of threads is not positive, or both a device and providers are given.
    """

    device: str = "auto"  # "auto": CUDA if ONNX Runtime has it, else the CPU; "cpu"; "cuda"
    providers: Sequence[Provider] | None = None  # of ONNX Runtime, in order of preference, in place of the device
    threads: int | None = None  # that each run the model on a batch; default: one per CPU that the process may use

    def __post_init__(self) -> None:
        find_named("device", self.device, dict.fromkeys(DEVICES))
        if self.threads is not None and (type(self.threads) is not int or self.threads < 1):
            raise UsageError(f"`threads` must be a whole number of at least 1. Received: {self.threads!r}.")
        if self.providers is None:
            return
        if self.device != "auto":
            raise UsageError(f"`device` {self.device} and `providers` exclude each other. Leave one of them out.")
        if isinstance(self.providers, str) or not self.providers:
            raise UsageError(f"`providers` must be a list of names. Received: {self.providers!r}.")

    def choose_providers(self, available: Sequence[str]) -> list[Provider]:
        """Return the execution providers to use, in order of preference.

        Args:
            available: Names of those that the installed ONNX Runtime has.

        Raises:
            UnknownNameError: A given provider is not available.
            UsageError: The device is "cuda", and ONNX Runtime has no CUDA.
        """
        if self.providers is not None:
            for provider in self.providers:
                name = provider if isinstance(provider, str) else provider[0]
                if name not in available:
                    raise UnknownNameError("provider", str(name), available)
            return list(self.providers)
        if self.device == "cuda" and CUDA not in available:
            raise no_cuda(f"it has {', '.join(available)}")
        return [CUDA, CPU] if self.device != "cpu" and CUDA in available else [CPU]


def no_cuda(reason: str) -> UsageError:
    """Return the error for the device "cuda" where ONNX Runtime cannot use it."""
    return UsageError(
        f"ONNX Runtime cannot use `device` cuda: {reason}. "
        "Install onnxruntime-gpu in place of onnxruntime, with its CUDA libraries, or set `device` to auto or cpu."
    )
