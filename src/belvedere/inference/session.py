"""ONNX Runtime sessions; the owner of ONNX Runtime.

A file of unknown origin is opened without reading any other file, and every failure becomes an error of this library.
Errors of ONNX Runtime have no common base but `Exception`.
"""

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from belvedere.errors import InferenceError, InvalidModelError
from belvedere.inference.graph_checks import Shape, check_graph
from belvedere.inference.model_paths import HINT
from belvedere.inference.providers import CPU, CUDA, DeviceOptions, Provider, no_cuda
from belvedere.runtime.memory import memory_left
from belvedere.runtime.terminal import MAX_REASON

FATAL = 4  # severity from which ONNX Runtime writes to stderr
MEMORY_FRACTION = 0.75  # of the memory that is left when the first model is opened
BOILERPLATE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |/onnxruntime_src/\S+:\d+ .*?\) ")
SETTINGS = {
    # A second line of defense behind `check_graph`: the folder for external data is not a folder.
    "session.model_external_initializers_file_folder_path": os.devnull,
    "session.load_model_format": "ONNX",  # not ONNX Runtime's own, which `check_graph` cannot read
}


class Cancellation:
    """Stops runs of a graph in other threads, between two of its nodes."""

    def __init__(self) -> None:
        self.options = _run_options()

    def cancel(self) -> None:
        """Make current and future runs with this cancellation fail."""
        self.options.terminate = True


class Session:
    """An opened graph that computes in the calling thread.

    On a CPU, one thread per batch is a third faster than several threads per layer.

    Attributes:
        name: Name of the file, for messages.
        inputs: Name -> shape, in order.
        outputs: Name -> shape, in order.
        metadata: Metadata of the file.
        providers: Execution providers in use, in order of preference.
    """

    def __init__(self, content: bytes, name: str, options: DeviceOptions | None = None) -> None:
        """Open a graph from the bytes of its file.

        Args:
            content: The file.
            name: Its name, for messages.
            options: Device or execution providers; default: the CPU.

        Raises:
            InvalidModelError: The file is not an ONNX model, cannot be run, or is unsafe (see `graph_checks`).
            UnknownNameError: A provider is not available.
            UsageError: ONNX Runtime cannot use the device.
        """
        self.name = name
        self._options = _run_options()
        options = options or DeviceOptions("cpu")
        providers = options.choose_providers(onnxruntime.get_available_providers())
        try:
            check_graph(content)
            self._session = _open(content, providers, is_optional=options.device == "auto" and not options.providers)
            self.providers: tuple[str, ...] = tuple(self._session.get_providers())
            self.inputs: Mapping[str, Shape] = {each.name: tuple(each.shape) for each in self._session.get_inputs()}
            self.outputs: Mapping[str, Shape] = {each.name: tuple(each.shape) for each in self._session.get_outputs()}
            self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        except Exception as error:
            raise InvalidModelError(f"{name} is not an ONNX model that can be run: {_reason(error)}. {HINT}") from error
        if options.device == "cuda" and CUDA not in self.providers:
            raise no_cuda("its CUDA libraries or the GPU are missing")

    def run(
        self,
        outputs: Sequence[str],
        inputs: Mapping[str, NDArray[np.generic]],
        cancellation: Cancellation | None = None,
    ) -> list[NDArray[np.float32]]:
        """Compute some of the outputs.

        Raises:
            InferenceError: ONNX Runtime fails, lacks memory, or was cancelled.
        """
        try:
            computed: list[NDArray[np.float32]] = self._session.run(
                outputs, inputs, cancellation.options if cancellation else self._options
            )
        except Exception as error:
            raise InferenceError(self.name, f"it cannot be run on {_describe(inputs)}: {_reason(error)}") from error
        return computed


def _open(content: bytes, providers: list[Provider], *, is_optional: bool) -> onnxruntime.InferenceSession:
    """Open a session; where CUDA is optional and fails, on the CPU."""
    try:  # without the fallback of ONNX Runtime, which prints to stdout
        return onnxruntime.InferenceSession(content, _session_options(), providers, enable_fallback=0)
    except Exception:
        if not (is_optional and CUDA in providers):
            raise
        return onnxruntime.InferenceSession(content, _session_options(), [CPU], enable_fallback=0)


@cache
def _limit_memory() -> bool:
    """Limit the memory of all graphs in this process, since a model may need more than there is.

    Returns:
        Whether it is limited; not if the available memory is unknown, or an allocator is already registered.
    """
    left = memory_left()
    if left is None:
        return False
    kind, memory_type = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, memory_type)
    try:
        arena = onnxruntime.OrtArenaCfg({"max_mem": int(MEMORY_FRACTION * left)})
        onnxruntime.create_and_register_allocator(memory, arena)
    except Exception:  # noqa: BLE001 - errors of ONNX Runtime have no other base
        return False
    return True


def _session_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    settings = SETTINGS | ({"session.use_env_allocators": "1"} if _limit_memory() else {})
    for key, value in settings.items():
        options.add_session_config_entry(key, value)
    return options


def _run_options() -> onnxruntime.RunOptions:
    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True  # otherwise every output is computed
    options.log_severity_level = FATAL  # errors are raised
    return options


def _reason(error: Exception) -> str:
    """Return the message of an error in one line, without error number and source location."""
    return BOILERPLATE.sub("", " ".join(str(error).split()))[:MAX_REASON] or type(error).__name__


def _describe(inputs: Mapping[str, NDArray[np.generic]]) -> str:
    return ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in inputs.items())
