"""Tables of benchmarks/versus_peers.py, and a run with a peer of a few lines."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import write_classes

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PEER = '''"""A loop.

Needs: pip install pillow numpy
"""
import pathlib, sys
model, folder, out, side = sys.argv[1:]
assert side == "8"
pathlib.Path(out).write_text("\\n".join(map(str, sorted(pathlib.Path(folder).rglob("*.png")))))
'''


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.mark.parametrize(
    ("ours", "theirs", "measure", "expected"),
    [
        (2.0, 5.0, "s", "2.50x"),
        (2.0, 5.0, "s to 87%", "2.50x"),
        (1.0, 40.0, "peak GB", "40x"),
        (30.0, 20.0, "requests/s", "1.50x"),
        (30.0, 20.0, "images/s, no start", "1.50x"),
        (0.3, 0.6, "p50, s", "2.00x"),
        (0.93, 0.94, "accuracy", "-0.0100"),
        (0.0, 0.0, "failed", ""),
        (math.inf, 1.0, "s to 87%", ""),
    ],
)
def test_ratio_above_1_is_better(ours: float, theirs: float, measure: str, expected: str) -> None:
    from versus_peers import ratio

    assert ratio(ours, theirs, measure) == expected


def test_table_shows_medians_ranges_and_ratios() -> None:
    from peer_programs import Result
    from versus_peers import Row, table

    def never(*_: object) -> Result:
        raise AssertionError

    results = {
        "theirs": [Result({"s": each, "s to 93%": math.inf}) for each in (9.0, 6.0, 7.0)],
        "ours": [Result({"s": each, "s to 93%": 2.0, "accuracy": 0.95}, "dark 3") for each in (3.5, 3.0, 4.0)],
    }
    assert table(Row("Title", {"theirs": never, "failed": never}, {"ours": never}), results) == [
        "## Title\n",
        "| program | s | s to 93% | accuracy |",
        "|---|---|---|---|",
        "| theirs | 7 (6 to 9) | not reached |  |",
        "| ours | 3.5 (3 to 4) | 2 | 0.9500 |",
        "| *ours to theirs* | 2.00x |  |  |",
        "",
        "- ours: dark 3",
        "",
    ]


def test_copies_are_found_in_the_group_of_their_original() -> None:
    from peer_programs import found_copies

    originals = {"copy 1": "a", "copy 2": "b", "copy 3": "c", "copy 4": "d"}
    assert found_copies([["a", "z", "copy 1"], ["copy 2", "c"], ["copy 3", "c"]], originals) == 0.5


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory of Linux")
def test_memory_includes_processes_below_those_that_were_started() -> None:
    from peer_programs import descendants, resident_bytes

    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        below = descendants(process.pid)
        assert len(below) == 1
        assert {process.pid, *below} <= set(descendants(os.getpid()))
        assert resident_bytes([process.pid, *below]) > resident_bytes(below) > 1e6
        process.stdin.write(b"\n")


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory of Linux")
def test_a_run_with_a_peer_writes_a_page(tiny_model: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_classes(tmp_path / "data" / split, 4)
    (tmp_path / "peers").mkdir()
    (tmp_path / "peers" / "onnx_loop.py").write_text(PEER)
    page = tmp_path / "page.md"
    options = {
        "--peers": tmp_path / "peers",
        "--weights": tiny_model,
        "--model": tiny_model,
        "--only": "predict",
        "--rounds": 1,
        "--images": 9,
        "--out": page,
    }
    words = [str(word) for pair in options.items() for word in pair]
    command = [sys.executable, str(BENCHMARKS / "versus_peers.py"), str(tmp_path / "data"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    text = page.read_text("utf-8")
    assert done.stdout.strip() == text.strip()
    assert str(tmp_path) not in text
    assert "| program | images/s | images/s, no start | peak GB |\n|---|---|---|---|\n| Pillow, ONNX Runtime | " in text
    assert "| *Belvedere to Pillow, ONNX Runtime* | " in text
