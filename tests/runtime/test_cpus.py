"""The CPUs that a process may use: affinity and the quota of its container."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from belvedere.runtime.cpus import num_usable_cpus

CODE = "from belvedere.runtime.cpus import num_usable_cpus; print(num_usable_cpus())"


@pytest.fixture
def machine_of_8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.usefixtures("machine_of_8")
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),  # rounded up
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu.max": "100000 0\n"}, 8),
        ({"cpu.max": "garbage"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_the_quota_of_a_container_counts(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert num_usable_cpus(tmp_path) == expected


def test_an_unknown_count_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "process_cpu_count", lambda: None, raising=False)
    assert num_usable_cpus(tmp_path) == 1


@pytest.mark.skipif(shutil.which("taskset") is None, reason="needs taskset")
def test_taskset_counts() -> None:
    first = min(os.sched_getaffinity(0))
    command = ["taskset", "--cpu-list", str(first), sys.executable, "-c", CODE]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1\n"
