"""How much memory there still is for models.

Knows what the machine and its control group leave; does not know ONNX Runtime.
"""

from contextlib import suppress
from pathlib import Path

CONTROL_GROUPS = {  # as containers see theirs: folder, and the names of limit and use there, version 2 and 1
    Path("/sys/fs/cgroup"): ("memory.max", "memory.current", ""),
    Path("/sys/fs/cgroup/memory"): ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
}
LEAST = 500_000_000  # bytes; below them a small model would fail for what may be a wrong count
MACHINE = Path("/proc/meminfo")


def memory_left() -> int | None:
    """Return the bytes that this process may still take, by the machine and by its container; None where unknown."""
    left = []
    with suppress(OSError, ValueError):
        [line] = [line for line in MACHINE.read_text().splitlines() if line.startswith("MemAvailable:")]
        left.append(int(line.removeprefix("MemAvailable:").removesuffix("kB")) * 1024)
    for folder, (limit_name, used_name, prefix) in CONTROL_GROUPS.items():
        with suppress(OSError, ValueError):  # without a bound version 2 says "max"
            limit, used = (int((folder / name).read_text()) for name in (limit_name, used_name))
            rows = (line.partition(" ") for line in (folder / "memory.stat").read_text().splitlines())
            files = f"{prefix}active_file", f"{prefix}inactive_file"
            cached = sum(int(size) for name, _, size in rows if name in files)
            left.append(limit - used + cached)  # files that were read make room
    return max(LEAST, min(left)) if left else None
