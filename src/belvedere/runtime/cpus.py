"""CPUs that this process may use, which may be fewer than the machine has."""

import math
from contextlib import suppress
from pathlib import Path

from belvedere.runtime.operating_system import count_cpus

CONTROL_GROUPS = Path("/sys/fs/cgroup")


def num_usable_cpus(control_groups: Path = CONTROL_GROUPS) -> int:
    """Return how many CPUs this process may use at a time, at least 1.

    The count respects `taskset`, PYTHON_CPU_COUNT of Python 3.13, and the quota of a container (`docker run --cpus`),
    rounded up.

    Args:
        control_groups: Folder of the control groups.
    """
    count = count_cpus() or 1
    quotas = [quota for quota in (_quota_v2(control_groups), _quota_v1(control_groups / "cpu")) if quota is not None]
    return max(1, min([count, *map(math.ceil, quotas)]))


def _quota_v2(folder: Path) -> float | None:
    """Return the quota in CPUs from `cpu.max`, such as "150000 100000"; "max" is none."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota) / int(period)
    return None


def _quota_v1(folder: Path) -> float | None:
    """Return the quota in CPUs of version 1; -1 is none."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return quota / period if quota > 0 else None
    return None
