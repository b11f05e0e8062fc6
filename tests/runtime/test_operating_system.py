"""Windows, as far as another system can show it: names, locks, renaming, and the encoding of the console."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import belvedere
from belvedere.data.export import export_folder
from belvedere.errors import UsageError
from belvedere.runtime import files, operating_system, output_folder
from belvedere.runtime.operating_system import problem_with_name
from conftest import write_classes, write_image
from windows import open_files, refuse_open_files

posix = pytest.mark.skipif(sys.platform == "win32", reason="imitates Windows")


@pytest.mark.parametrize(
    "name", ["CON", "nul.txt", "com1", "LPT9.tar.gz", "aux ", "com²", "a:b", "a?", "a<", "a\tb", "a.", "a "]
)
def test_windows_refuses_names_that_others_take(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert problem_with_name(name)
    monkeypatch.setattr(sys, "platform", "linux")
    assert not problem_with_name(name)


@pytest.mark.parametrize("system", ["win32", "darwin", "linux"])
def test_names_that_all_systems_refuse_or_take(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", system)
    assert all(map(problem_with_name, ("", ".", "..", "a/b", "a\\b", "a\0")))
    assert not any(map(problem_with_name, ("cat", "Konzert", "console", "com10", ".hidden", "a b", "café", "日本")))


@posix
def test_a_file_that_another_program_has_opened_is_replaced_when_it_is_closed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, original, failures = tmp_path / "x.bin", Path.replace, [3]
    path.write_bytes(b"old")

    def fail_first(source: Path, target: Path) -> Path:
        failures[0] -= 1
        if failures[0] >= 0:
            raise PermissionError(13, "The process cannot access the file")
        return original(source, target)

    monkeypatch.setattr(Path, "replace", fail_first)
    with pytest.raises(UsageError):
        files.write_bytes(path, b"new")  # elsewhere, permissions do not change by waiting
    assert path.read_bytes() == b"old"
    failures[0] = 3
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(operating_system, "RENAME_SECONDS", 0.001)
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    failures[0] = operating_system.RENAME_ATTEMPTS
    with pytest.raises(UsageError):
        files.write_bytes(path, b"newest")
    assert [each.name for each in tmp_path.iterdir()] == ["x.bin"]
    assert path.read_bytes() == b"new"


@posix
def test_results_are_renamed_without_open_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refuse_open_files(monkeypatch)
    with (tmp_path / "held").open("wb"), pytest.raises(PermissionError):
        (tmp_path / "held").rename(tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    for content in (b"old", b"new"):
        files.write_bytes(Path("x.bin"), content)
        with output_folder.atomic_folder(Path("results"), overwrite=True) as partial:
            files.write_bytes(partial / "x.bin", content)
        assert Path("x.bin").read_bytes() == Path("results/x.bin").read_bytes() == content
    assert sorted(each.name for each in tmp_path.iterdir()) == ["held", "results", "x.bin"]
    assert not [file for file in open_files() if file.is_relative_to(tmp_path)]


@posix
def test_commands_rename_no_open_files(tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refuse_open_files(monkeypatch)
    out = tmp_path / "out"
    out.mkdir()
    photos = write_classes(tmp_path / "photos", 3)
    for overwrite in (False, True):
        for name in ("rows.csv", "rows.jsonl", "rows.json", "rows.parquet"):
            summary = belvedere.predict(tiny_model, photos, out=out / name, overwrite=overwrite)
            assert summary.num_images == 9
        belvedere.evaluate(tiny_model, photos, out=out / "evaluation", overwrite=overwrite)
        belvedere.audit(photos, out=out / "audit", label_issues=False, overwrite=overwrite)
    names = {"rows.csv", "rows.jsonl", "rows.json", "rows.parquet", "evaluation", "audit"}
    assert {each.name for each in out.iterdir()} == names


@posix
def test_locks_of_windows_leave_the_position(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    locked: list[tuple[int, int]] = []

    def locking(descriptor: int, mode: int, count: int) -> None:
        if (position := os.lseek(descriptor, 0, os.SEEK_CUR)) in [each for each, _ in locked]:
            raise PermissionError(13, "Permission denied")
        locked.append((position, count * mode))

    msvcrt = ModuleType("msvcrt")
    msvcrt.locking, msvcrt.LK_NBLCK = locking, 2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "msvcrt", msvcrt)
    spec = importlib.util.spec_from_file_location("windows_module", str(operating_system.__file__))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as imported:
        imported.setattr(sys, "platform", "win32")
        spec.loader.exec_module(module)
    monkeypatch.setattr(module, "_LOCKED_BYTE", 1 << 40)  # disks of other systems end before 1 << 62
    with (tmp_path / "x").open("w+b") as file:
        file.write(b"content")
        module.lock(file)
        assert file.tell() == len(b"content")
        with pytest.raises(PermissionError):
            module.lock(file)
        assert file.tell() == len(b"content")
        module.allocate(file, 0, 100)
        module.sync_folder(tmp_path)
    assert locked[0][0] == 1 << 40
    assert (tmp_path / "x").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["predict", "MODEL", "photos"], 0),
        (["predict", "MODEL", "photos/日本/none.png"], 1),
        (["audit", "photos", "--skip-label-issues", "--out", "audit"], 0),
        (["evaluate", "MODEL", "photos"], 2),  # the model has no such classes
        (["show", "日本"], 2),
    ],
    ids=str,
)
def test_a_console_that_is_not_utf_8_gets_escapes(
    command: list[str], code: int, tiny_model: Path, tmp_path: Path
) -> None:
    for name in ("日本", "café"):
        write_image(tmp_path / "photos" / name / "été-東京.png", "red", len(name))
    words = [sys.executable, "-m", "belvedere", *(str(tiny_model) if word == "MODEL" else word for word in command)]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    done = subprocess.run(words, capture_output=True, cwd=tmp_path, env=environment, check=False)
    shown = done.stdout.decode("cp1252") + done.stderr.decode("cp1252")
    assert done.returncode == code, shown
    assert "Traceback" not in shown
    assert "Bug" not in shown


def test_labels_that_windows_refuses_as_folders_are_not_exported_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number, label in enumerate(("red", "con")):
        write_image(tmp_path / "images" / label / "0.png", "red", number)
    dataset = belvedere.load_dataset(tmp_path / "images")
    export_folder(dataset, tmp_path / "linux", copy=True, overwrite=False)
    assert sorted(each.name for each in (tmp_path / "linux").iterdir() if each.is_dir()) == ["con", "red"]
    monkeypatch.setattr(operating_system, "sys", SimpleNamespace(platform="win32"))
    with pytest.raises(UsageError, match="'con'"):
        export_folder(dataset, tmp_path / "windows", copy=True, overwrite=False)
    assert not (tmp_path / "windows").exists()
