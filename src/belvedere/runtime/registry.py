"""Registries: things of one kind by name, built-in ones and those of plug-ins.

A plug-in is an installed package with an entry point, or a file that `load_code` runs. Entry points of a kind are
loaded when a name that is not built in, or a list of all names, is looked up.
"""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from belvedere.errors import BelvedereError, PluginError, UsageError, find_named
from belvedere.runtime.terminal import printable

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Value = TypeVar("Value")
GROUP_PREFIX = "belvedere."  # of the names of the entry-point groups


class Registry(Mapping[str, Value]):
    """Things of one kind by name, in the order in which they were registered."""

    def __init__(self, kind: str, group: str, deferred: Mapping[str, str] | None = None) -> None:
        """Create a registry without loading anything.

        Args:
            kind: Noun for messages, such as "network".
            group: Entry-point group without its prefix, such as "networks".
            deferred: Built-in names, each with the module whose import registers it.
        """
        self.kind, self.group = kind, GROUP_PREFIX + group
        self._function = f"register_{group.removesuffix('s')}"  # that plug-ins call
        self._deferred = dict(deferred or {})
        self._values: dict[str, Value] = {}
        self._searched = False  # whether the entry points were loaded
        self._scoped: ContextVar[Mapping[str, Value]] = ContextVar(f"{kind}s of a block", default={})  # noqa: B039

    def add(self, name: str, value: Value, *, overwrite: bool = False) -> None:
        """Register a thing under a name.

        Raises:
            UsageError: The name is empty, or registered already and `overwrite` is false.
        """
        if not isinstance(name, str) or not name.strip():
            raise UsageError(f"The name of a {self.kind} must be a text that is not empty. Received: {name!r}.")
        if name in self._values and not overwrite:
            raise UsageError(
                f"There is a {self.kind} {name!r} already. Choose another name, or set `overwrite` to replace it."
            )
        self._values[name] = value

    @contextmanager
    def scoped(self, name: str, value: Value) -> Iterator[None]:
        """Register a thing for the duration of a block, in this thread only, in front of others of its name."""
        token = self._scoped.set({**self._scoped.get(), name: value})
        try:
            yield
        finally:
            self._scoped.reset(token)

    def find(self, name: str) -> Value:
        """Return the thing of a name.

        Raises:
            UnknownNameError: The name is not registered; the message suggests the closest.
        """
        return find_named(self.kind, name, self)

    def __contains__(self, name: object) -> bool:
        """Return whether a name is registered; plug-ins are loaded if it is not built in."""
        if self._is_known(name):
            return True
        self._load_plugins()
        return self._is_known(name)

    def __getitem__(self, name: str) -> Value:
        if name not in self:
            raise KeyError(name)
        scoped = self._scoped.get()
        if name in scoped:
            return scoped[name]
        if name not in self._values:
            importlib.import_module(self._deferred[name])
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        self._load_plugins()
        return iter(dict.fromkeys((*self._deferred, *self._values, *self._scoped.get())))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _is_known(self, name: object) -> bool:
        return name in self._values or name in self._deferred or name in self._scoped.get()

    def _load_plugins(self) -> None:
        """Load the entry points once; one that fails is named in a line, and the others are loaded."""
        if self._searched:
            return
        self._searched = True
        for module in dict.fromkeys(self._deferred.values()):
            importlib.import_module(module)  # so that no plug-in takes a built-in name
        from importlib.metadata import entry_points  # here, since its import takes as long as that of Belvedere

        for plugin in entry_points(group=self.group):
            known, name = len(self._values), _describe(plugin)
            try:
                with plugin_errors(name):
                    plugin.load()
            except PluginError as error:
                warn(str(error))
            except BelvedereError as error:  # such as a name that is taken
                warn(f"{name} failed. {error}")
            else:
                if len(self._values) == known:
                    warn(f"{name} registers no {self.kind}. Its module must call {self._function}.")


def warn(message: str) -> None:
    """Log a warning of one line, which commands print to stderr."""
    import logging

    logging.getLogger(__name__).warning("%s", printable(message))


def _describe(plugin: "EntryPoint") -> str:
    package = f" of the package {plugin.dist.name!r}" if plugin.dist else ""
    return f"The plug-in {plugin.name!r}{package} ({plugin.group}: {plugin.value})"


@contextmanager
def plugin_errors(what: str) -> Iterator[None]:
    """Turn the exceptions of code that Belvedere did not write into errors of one line.

    Args:
        what: The code, as the start of a sentence, such as "The check 'frame'".

    Raises:
        PluginError: The block raised an exception that is not one of Belvedere's.
    """
    try:
        yield
    except (BelvedereError, BrokenPipeError):  # the latter: the reader of the output has ended
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(what, error) from error
