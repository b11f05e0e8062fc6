"""A graph that ONNX Runtime has opened, and how it is run; the owner of ONNX Runtime.

Knows how a file from anybody is opened without reading another, and that whatever goes wrong is an error of the
library; does not know what the graph is for. Errors of ONNX Runtime have no common parent but `Exception`.
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
from belvedere.inference.model_paths import WHAT_TO_GIVE
from belvedere.runtime.memory_limit import memory_left

FATAL = 4  # severity from which ONNX Runtime itself writes to stderr
MEMORY_FRACTION = 0.75  # of what is left when the first model is opened
MAX_REASON = 200  # characters of what ONNX Runtime says
BOILERPLATE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |/onnxruntime_src/\S+:\d+ .*?\) ")
SETTINGS = {
    # A second lock behind `check_graph`: the folder for data outside the file is no folder.
    "session.model_external_initializers_file_folder_path": os.devnull,
    "session.load_model_format": "ONNX",  # not ONNX Runtime's own, which `check_graph` does not know
}


class Cancellation:
    """Ends runs of a graph that other threads are in, between two of its nodes."""

    def __init__(self) -> None:
        self.options = _run_options()

    def cancel(self) -> None:
        """Make runs that have this cancellation fail, also those to come."""
        self.options.terminate = True


class Session:
    """A graph that has been opened, which computes in the thread that asks.

    Threads that share the images among them are a third quicker than threads that share each layer.

    Attributes:
        name: Of the file, for messages.
        inputs: Name to shape, in order.
        outputs: The same.
        metadata: What the file says of itself.
    """

    def __init__(self, content: bytes, name: str) -> None:
        """Open a graph.

        Args:
            content: The file's bytes.
            name: Its name.

        Raises:
            InvalidModelError: It is no ONNX model, can't be run, or holds what no model may hold (see `graph_checks`).
        """
        self.name = name
        self._options = _run_options()
        try:
            check_graph(content)
            self._session = onnxruntime.InferenceSession(
                content, _session_options(), providers=["CPUExecutionProvider"]
            )
            self.inputs: Mapping[str, Shape] = {each.name: tuple(each.shape) for each in self._session.get_inputs()}
            self.outputs: Mapping[str, Shape] = {each.name: tuple(each.shape) for each in self._session.get_outputs()}
            self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        except Exception as error:
            raise InvalidModelError(
                f"{name} is not an ONNX model that can be run: {_reason(error)}. {WHAT_TO_GIVE}"
            ) from error

    def run(
        self, outputs: Sequence[str], given: Mapping[str, NDArray[np.generic]], cancellation: Cancellation | None = None
    ) -> list[NDArray[np.float32]]:
        """Compute some of the outputs.

        Raises:
            InferenceError: ONNX Runtime can't, lacks memory, or was stopped by the cancellation.
        """
        try:
            computed: list[NDArray[np.float32]] = self._session.run(
                outputs, given, cancellation.options if cancellation else self._options
            )
        except Exception as error:
            raise InferenceError(self.name, f"it can't be run on {_describe(given)}: {_reason(error)}") from error
        return computed


@cache
def _limit_memory() -> bool:
    """Limit what all graphs of this process take together: a model may ask for more than there is, and be killed.

    Returns:
        Whether they are limited; not where it is unknown what there is, or the program has an allocator of its own.
    """
    left = memory_left()
    if left is None:
        return False
    kind, place = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, place)
    try:
        arena = onnxruntime.OrtArenaCfg({"max_mem": int(MEMORY_FRACTION * left)})
        onnxruntime.create_and_register_allocator(memory, arena)
    except Exception:  # noqa: BLE001 - ONNX Runtime's have no other common parent
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
    options.only_execute_path_to_fetches = True  # else every output is computed, asked for or not
    options.log_severity_level = FATAL  # errors are raised
    return options


def _reason(error: Exception) -> str:
    """What an error says, in one line, without its number and the places in ONNX Runtime's source."""
    return BOILERPLATE.sub("", " ".join(str(error).split()))[:MAX_REASON] or type(error).__name__


def _describe(given: Mapping[str, NDArray[np.generic]]) -> str:
    return ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in given.items())
