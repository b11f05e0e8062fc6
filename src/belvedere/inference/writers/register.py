"""Registration of prediction formats of plug-ins and users."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from belvedere.errors import UsageError
from belvedere.inference.writers.text import WRITERS, WriterSpec
from belvedere.runtime.registry import plugin_errors
from belvedere.types.data import ModelId
from belvedere.types.prediction import Prediction

# File, names of the K classes, and model -> an object with `write(prediction)` and `close()`.
CustomWriterFactory = Callable[[Any, Sequence[str], ModelId], Any]


def register_writer(
    name: str, *, binary: bool = False, overwrite: bool = False
) -> Callable[[CustomWriterFactory], CustomWriterFactory]:
    """Return a decorator that registers a format of predictions: for `format`, and for files with this suffix.

    The class or function is called with an open file, the names of the K classes and the `ModelId` of the model. It
    returns an object with two methods: `write(prediction)` is called for each `Prediction`, in order, and `close()` at
    the end, with the reason as its argument `error`, if it has one and the predictions ended early. The file appears
    when it is complete; a registered format cannot be resumed.

    Args:
        name: Name and suffix, such as "html".
        binary: Whether the file takes bytes. Default: text in UTF-8, which can also be printed.
        overwrite: Whether to replace a format of that name.

    Raises:
        UsageError: The name is taken, or cannot be a suffix.
    """
    if not isinstance(name, str) or not name.isalnum() or not name.islower():
        raise UsageError(
            f"The name of a format must be lower-case letters and digits, as a suffix. Received: {name!r}."
        )

    def add(create: CustomWriterFactory) -> CustomWriterFactory:
        def create_guarded(file: Any, class_names: Sequence[str], model: ModelId) -> "_GuardedWriter":
            return _GuardedWriter(name, create, file, class_names, model)

        WRITERS.add(name, WriterSpec(create_guarded, binary), overwrite=overwrite)
        return create

    return add


class _GuardedWriter:
    """Names a registered format in the errors of its writer."""

    def __init__(
        self, name: str, create: CustomWriterFactory, file: Any, class_names: Sequence[str], model: ModelId
    ) -> None:
        self._name = f"The writer of the format {name!r}"
        with plugin_errors(self._name):
            self._writer = create(file, class_names, model)
        missing = [method for method in ("write", "close") if not callable(getattr(self._writer, method, None))]
        if missing:
            raise UsageError(f"{self._name} has no method `{missing[0]}`. Received: {type(self._writer).__name__}.")
        self._takes_error = "error" in inspect.signature(self._writer.close).parameters

    def write(self, prediction: Prediction) -> None:
        """Write one prediction."""
        with plugin_errors(self._name):
            self._writer.write(prediction)

    def close(self, error: str | None = None) -> None:
        """Write the end of the output."""
        with plugin_errors(self._name):
            self._writer.close(**{"error": error} if self._takes_error else {})
