"""Registries: names, plug-ins that are installed packages, and their failures."""

import logging
import threading
from pathlib import Path

import pytest

from belvedere.errors import PluginError, UnknownNameError, UsageError
from belvedere.runtime.registry import Registry, plugin_errors

GROUP = "belvedere.tests"
SHARED: Registry[int] = Registry("number", "tests")  # that the plug-ins of a test fill


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, with an installed package whose entry points are the modules of PLUGINS."""
    info = tmp_path / "numbers_of_others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numbers-of-others\nVersion: 1.0\n")
    names = ("failing", "taken", "idle", "missing", "good")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n" + "".join(f"{name} = plugin_{name}\n" for name in names))
    header = f"import sys\nregistry = sys.modules[{__name__!r}].SHARED\n"
    (tmp_path / "plugin_failing.py").write_text("raise ValueError('two\\nlines')\n")
    (tmp_path / "plugin_taken.py").write_text(f"{header}registry.add('one', 100)\n")
    (tmp_path / "plugin_idle.py").write_text("")
    (tmp_path / "plugin_good.py").write_text(f"{header}registry.add('seven', 7)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(SHARED, "_values", {"one": 1})
    monkeypatch.setattr(SHARED, "_searched", False)
    return tmp_path


def test_names_are_found_in_their_order() -> None:
    registry: Registry[int] = Registry("number", "none")
    registry.add("two", 2)
    registry.add("one", 1)
    assert list(registry.items()) == [("two", 2), ("one", 1)]
    assert registry.find("one") == 1
    with pytest.raises(UnknownNameError, match="'one'"):
        registry.find("onne")
    with pytest.raises(KeyError):
        _ = registry["three"]


def test_a_taken_name_is_refused_unless_overwritten() -> None:
    registry: Registry[int] = Registry("number", "none")
    registry.add("one", 1)
    with pytest.raises(UsageError, match="'one'"):
        registry.add("one", 11)
    assert registry["one"] == 1
    registry.add("one", 11, overwrite=True)
    assert dict(registry) == {"one": 11}


@pytest.mark.parametrize("name", ["", "  ", None, 3])
def test_a_name_is_a_text(name: str) -> None:
    with pytest.raises(UsageError):
        SHARED.add(name, 1)


@pytest.mark.usefixtures("plugins")
def test_a_built_in_name_loads_no_plugin(caplog: pytest.LogCaptureFixture) -> None:
    assert "one" in SHARED
    assert SHARED.find("one") == 1
    assert caplog.messages == []


@pytest.mark.usefixtures("plugins")
def test_plugins_are_loaded_and_failures_named_in_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "belvedere"):
        assert SHARED.find("seven") == 7
        assert list(SHARED.items()) == [("one", 1), ("seven", 7)]  # the plug-ins are loaded once
    assert len(caplog.messages) == 4
    for name, line in zip(("failing", "taken", "idle", "missing"), caplog.messages, strict=True):
        assert f"'{name}' of the package 'numbers-of-others'" in line
        assert line.isprintable()


def test_deferred_names_import_their_module_when_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deferred_numbers.py").write_text(f"import sys\nsys.modules[{__name__!r}].DEFERRED.add('ten', 10)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "ten" in DEFERRED
    assert dict(DEFERRED._values) == {}
    assert DEFERRED["ten"] == 10
    assert list(DEFERRED) == ["ten"]


DEFERRED: Registry[int] = Registry("number", "none", {"ten": "deferred_numbers"})


def test_a_scope_ends_with_its_block_and_is_of_one_thread() -> None:
    registry: Registry[int] = Registry("number", "none")
    registry.add("one", 1)
    seen: list[object] = []
    with pytest.raises(ZeroDivisionError), registry.scoped("one", 11), registry.scoped("two", 2):
        assert dict(registry) == {"one": 11, "two": 2}
        thread = threading.Thread(target=lambda: seen.append(dict(registry)))
        thread.start()
        thread.join()
        _ = 1 / 0
    assert seen == [{"one": 1}]
    assert dict(registry) == {"one": 1}


def test_errors_of_other_code_are_one_line_with_a_place() -> None:
    with pytest.raises(PluginError) as raised, plugin_errors("The check 'frame'"):
        raise ValueError("two\nlines")
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith("The check 'frame' failed: ValueError: two lines (test_registry.py, line ")
    assert isinstance(raised.value.__cause__, ValueError)


@pytest.mark.parametrize("error", [UsageError("x"), BrokenPipeError(), KeyboardInterrupt()])
def test_our_errors_and_the_end_of_the_program_pass(error: BaseException) -> None:
    with pytest.raises(type(error)), plugin_errors("The check"):
        raise error
