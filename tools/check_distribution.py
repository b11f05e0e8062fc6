"""Check the wheel and the sdist as users get them: `python tools/check_distribution.py [--dist FOLDER]`.

Builds both (or checks those in FOLDER), compares their files with those of git, runs `twine check --strict`, installs
the wheel with its dependencies into a new environment, and predicts a generated image there with the bundled model.
Exits with 1 and one line per problem.
"""

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SDIST_FILES = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml"}
SDIST_MADE = {"PKG-INFO", "setup.cfg"}  # by setuptools
DIST_INFO = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"}
DRAW = "from PIL import Image; Image.linear_gradient('L').convert('RGB').save('gradient.png')"


def run(*command: object, folder: Path = ROOT) -> str:
    """Run a command and return what it prints."""
    return subprocess.run(list(map(str, command)), cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def compare(kind: str, found: set[str], expected: set[str]) -> list[str]:
    """Return a line for each file that is missing or should not be there."""
    lines = [f"{kind} lacks {name}" for name in sorted(expected - found)]
    return lines + [f"{kind} contains {name}, which is not for users" for name in sorted(found - expected)]


def check_wheel(wheel: Path, sources: set[str]) -> list[str]:
    """Compare the files of a wheel with the package's: code, py.typed, templates, scripts, pages and the model."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    [metadata] = {name.split("/")[0] for name in names if ".dist-info/" in name}
    expected = {name.removeprefix("src/") for name in sources} | {f"{metadata}/{name}" for name in DIST_INFO}
    return compare(wheel.name, names, expected)


def check_sdist(sdist: Path, sources: set[str]) -> list[str]:
    """Compare the files of an sdist with the package's; tests and benchmarks stay in the repository."""
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    found = {name for name in names if ".egg-info/" not in name}
    return compare(sdist.name, found, sources | SDIST_FILES | SDIST_MADE)


def check_install(wheel: Path, folder: Path) -> list[str]:
    """Install a wheel into a new environment and predict an image."""
    venv.create(folder / "environment", with_pip=True)
    programs = folder / "environment" / ("Scripts" if sys.platform == "win32" else "bin")
    python = programs / "python"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel, folder=folder)
    run(python, "-c", DRAW, folder=folder)
    version = run(programs / "belvedere", "--version", folder=folder).strip()
    answer = json.loads(run(programs / "belvedere", "predict", "gradient.png", "--json", folder=folder))
    print(f"{wheel.name}, version {version}: {json.dumps(answer)[:200]}")
    lines = [] if f"-{version}-" in wheel.name else [f"{wheel.name} prints the version {version}"]
    [prediction] = answer["predictions"]
    return lines + ([f"{wheel.name} predicts with an error: {prediction}"] if prediction["error"] else [])


def main() -> int:
    """Build, or take, the distribution and check it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", type=Path, help="folder of a wheel and an sdist; default: both are built")
    given: Path | None = parser.parse_args().dist
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        dist = folder / "dist" if given is None else given.resolve()
        if given is None:
            run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist)
        [wheel], [sdist] = dist.glob("*.whl"), dist.glob("*.tar.gz")
        sources = set(run("git", "ls-files", "src").split())
        problems = check_wheel(wheel, sources) + check_sdist(sdist, sources)
        print(run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist), end="")
        problems += check_install(wheel, folder)
    print("\n".join(problems) if problems else "The distribution is complete.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
