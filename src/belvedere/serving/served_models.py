"""The models of one server, by name."""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated

from fastapi import Path

from belvedere.errors import UsageError
from belvedere.runtime.http.errors import HTTPError
from belvedere.serving.model_watch import ModelWatch

ModelName = Annotated[str, Path(description="Name of the model.")]  # in the path of a route
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")  # part of a path


class ServedModels:
    """Models that are watched and served.

    Attributes:
        default: The model of the routes that name none.
    """

    def __init__(self, watches: Sequence[ModelWatch]) -> None:
        """Take over models with different names; the first one is the default."""
        self._by_name = {watch.served_name: watch for watch in watches}
        self.default = watches[0]

    def __iter__(self) -> Iterator[ModelWatch]:
        return iter(self._by_name.values())

    def find(self, name: str) -> ModelWatch:
        """Return a model by name.

        Raises:
            HTTPError: There is none.
        """
        if (watch := self._by_name.get(name)) is None:
            message = f"There is no model {name[:100]!r}. Models of this server: {', '.join(self._by_name)}."
            raise HTTPError(404, message, "unknown_model")
        return watch

    def start(self) -> None:
        """Start to watch the files."""
        for watch in self:
            watch.start()

    def stop(self) -> None:
        """Stop to watch the files."""
        for watch in self:
            watch.stop()

    @property
    def is_alive(self) -> bool:
        """Whether every file is watched."""
        return all(watch.is_alive for watch in self)


def check_name(name: str) -> None:
    """Check the name of a model.

    Raises:
        UsageError: It cannot be part of a path.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"Not a name of a model: {name[:100]!r}. Give up to 63 letters, digits, points, hyphens and underscores, a "
            "letter or digit first."
        )
