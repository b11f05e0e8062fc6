"""Print how many mutants of `make mutate` the tests kill, module by module, and the mutants that survive."""

import re
import subprocess
import sys
from collections import Counter, defaultdict

NOT_RUN = "not checked"  # status of mutants of modules that were left out
KILLED = {"killed", "timeout", "caught by type check"}


def main() -> None:
    """Print a Markdown table of the last run, then the survivors."""
    command = [sys.executable, "-m", "mutmut", "results", "--all", "true"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^ *belvedere\.([\w.]+)\.(x\S+): (.+)$", printed, flags=re.MULTILINE)
    rows = [row for row in found if row[2] != NOT_RUN]
    by_module: defaultdict[str, Counter[bool]] = defaultdict(Counter)
    for module, _, status in rows:
        by_module[module][status in KILLED] += 1
    print("| module | mutants | killed |\n|---|---|---|")
    for module, counts in sorted(by_module.items()):
        print(f"| {module} | {counts.total()} | {counts[True] / counts.total():.1%} |")
    total = sum(by_module.values(), Counter[bool]())
    print(f"| all | {total.total()} | {total[True] / max(total.total(), 1):.1%} |\n")
    for module, name, status in rows:
        if status not in KILLED:
            print(f"belvedere.{module}.{name}: {status}")


if __name__ == "__main__":
    main()
