"""docs/serving.md and the Dockerfile: their commands run, against a real server."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from belvedere.cli import app
from belvedere.serving import model_watch
from belvedere.serving.batcher import CLOSE_SECONDS
from belvedere.serving.limits import Limits
from belvedere.serving.server import HEADER_SECONDS, SHUTDOWN_SECONDS
from documentation import read_blocks
from serve_process import Server, activation_map_model, png, serve

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
SOCKET = "/run/belvedere/socket"
OPTIONS = {option for parameter in get_command(app).commands["serve"].params for option in parameter.opts}  # type: ignore[attr-defined]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


LINES = [
    line
    for block in read_blocks(ROOT / "docs" / "serving.md")
    if block.language == "bash" and block.reason is None
    for line in block.text.splitlines()
    if not line.startswith("belvedere ")
]
CURLS = [line for line in LINES if line.startswith("curl ") and SOCKET not in line]


def dockerfile() -> dict[str, list[str]]:
    """Return the instructions by name, with joined continuation lines."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            found.setdefault(name, []).append(rest.strip())
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    (folder / "photo.jpg").write_bytes(png("red"))
    (folder / "other.png").write_bytes(png("blue"))
    (folder / "model.onnx").write_bytes(activation_map_model())
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serve(folder) as running:
        yield running


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("line", CURLS)
def test_the_curl_lines_run(server: Server, folder: Path, line: str) -> None:
    before = [each for each in LINES[: LINES.index(line)] if not each.startswith("curl ")]  # they make files
    output = run("\n".join([*before, line.replace(ADDRESS, server.address)]), folder)
    if line.endswith("/metrics"):
        assert "belvedere_requests_total" in output
        return
    document = json.loads(output)
    if "/infer" in line:
        assert document["outputs"][0]["data"] == ["red"]
    elif "predict" in line:
        assert document["predictions"][0]["predicted_label"] == "red"
        assert len(document["predictions"]) == line.count("@")
        assert (document["predictions"][0]["heatmap"] is not None) == ("heatmaps=true" in line)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_line_for_a_unix_socket_runs(folder: Path) -> None:
    [line] = [each for each in LINES if SOCKET in each]
    with tempfile.TemporaryDirectory(dir="/tmp") as place, serve(folder, "--unix-socket", f"{place}/s"):
        document = json.loads(run(line.replace(SOCKET, f"{place}/s"), folder))
    assert document["predictions"][0]["predicted_label"] == "red"


def run(script: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_client_of_triton_runs(server: Server, folder: Path) -> None:
    pytest.importorskip("tritonclient.http")
    [_, code] = blocks("python")
    (folder / "triton_client.py").write_text(code.replace(ADDRESS.removeprefix("http://"), f"127.0.0.1:{server.port}"))
    done = subprocess.run([sys.executable, "triton_client.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[b'red' b'blue']\n(2, 3)\n"


def test_there_are_curl_lines() -> None:
    assert len(CURLS) >= 6


def test_the_python_client_runs(server: Server, folder: Path) -> None:
    [code, _] = blocks("python")
    (folder / "client.py").write_text(code.replace(ADDRESS, server.address))
    done = subprocess.run([sys.executable, "client.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "red\n"
    (folder / "photo.jpg").write_bytes(b"torn")
    refused = subprocess.run([sys.executable, "client.py"], cwd=folder, capture_output=True, text=True, check=False)
    (folder / "photo.jpg").write_bytes(png("red"))
    assert "invalid_image" in refused.stderr


def test_the_codes_of_the_page_are_those_of_the_service() -> None:
    folders = [ROOT / "src" / "belvedere" / name for name in ("serving", "runtime/http")]
    source = "".join(file.read_text() for folder in folders for file in folder.rglob("*.py"))
    for code in re.findall(r"`(\w+)`", PAGE.split("| status |")[1].split("\n\n")[0]):
        assert f'"{code}"' in source, code


def test_the_metrics_of_the_page_exist(server: Server) -> None:
    text = server.get("/metrics").content.decode()
    for name in set(re.findall(r"`(belvedere_\w+)", PAGE)):
        assert name in text, name


def test_the_unit_starts_an_existing_command_with_existing_options() -> None:
    [text] = blocks("ini")
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    program, verb, *rest = shlex.split(unit["Service"]["ExecStart"])
    assert (Path(program).name, verb) == ("belvedere", "serve")
    assert {each for each in rest if each.startswith("--")} <= OPTIONS
    limits = Limits()
    on_requests = (
        limits.drain_seconds + HEADER_SECONDS + limits.body_seconds + limits.response_seconds + SHUTDOWN_SECONDS
    )
    assert int(unit["Service"]["TimeoutStopSec"]) > on_requests + CLOSE_SECONDS + model_watch.STOP_SECONDS


def test_the_unit_requires_its_token(folder: Path, tmp_path: Path) -> None:
    """Run the line of the unit with the credentials folder of systemd."""
    [text] = blocks("ini")
    [credential] = re.findall(r"^LoadCredential=(\w+):", text, flags=re.MULTILINE)
    [line] = re.findall(r"^ExecStart=\S+/belvedere serve (.*)$", text, flags=re.MULTILINE)
    (tmp_path / credential).write_text("a-token-of-the-tests\n")
    arguments = line.replace("${CREDENTIALS_DIRECTORY}", str(tmp_path)).replace("/srv/model", str(folder))
    assert arguments.count(str(tmp_path)) == 1
    with serve(*shlex.split(arguments)) as guarded:
        assert guarded.get("/model").status == 401
        assert guarded.get("/model", Authorization="Bearer a-token-of-the-tests").status == 200


def test_the_scrape_example_is_yaml() -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML, which comes with the extra train")
    [text] = blocks("yaml")
    [job] = yaml.safe_load(text)["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [ADDRESS.removeprefix("http://")]


def test_the_container_is_unprivileged_and_checks_its_health(server: Server) -> None:
    steps = dockerfile()
    [base] = steps["ARG"]
    assert re.fullmatch(r"BASE=python:3\.11-slim@sha256:[0-9a-f]{64}", base)
    assert all(each.split()[0] == "${BASE}" for each in steps["FROM"])
    assert steps["WORKDIR"] == ["/srv"]
    assert steps["USER"] == ["belvedere"]
    assert any("useradd" in step and "belvedere" in step for step in steps["RUN"])
    assert json.loads(steps["ENTRYPOINT"][0]) == ["belvedere"]
    verb, *rest = json.loads(steps["CMD"][0])
    assert verb == "serve"
    assert {each for each in rest if each.startswith("--")} <= OPTIONS
    [check] = steps["HEALTHCHECK"]
    command = json.loads(check[check.index("[") :])
    assert command[0] == "python"
    code = command[2].replace(ADDRESS, server.address)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    gone = command[2].replace(ADDRESS, "http://127.0.0.1:9")
    assert subprocess.run([sys.executable, "-c", gone], check=False, capture_output=True).returncode != 0


def test_the_containers_install_holds_the_page(tmp_path: Path) -> None:
    """The files that are copied, installed as the container installs them, but without what they depend on."""
    pytest.importorskip("setuptools", reason="needs setuptools to build without a network")
    steps = dockerfile()
    source = tmp_path / "source"
    for copy in steps["COPY"][:2]:
        *names, target = copy.split()
        copied = tmp_path / target.strip("/")
        for name in names:
            assert f"!{name}" in (ROOT / ".dockerignore").read_text().splitlines()
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copied, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                copied.mkdir(exist_ok=True)
                shutil.copy(ROOT / name, copied)
    libraries, ours = [step.split(" install ")[1] for step in steps["RUN"] if " install " in step]
    assert libraries == "--no-cache-dir --require-hashes --requirement /source/requirements-docker.txt"
    assert ours == "--no-cache-dir --no-deps --no-build-isolation /source"
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    done = subprocess.run([*build, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = tmp_path.glob("belvedere-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    for file in (ROOT / "src" / "belvedere" / "serving").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert str(file.relative_to(ROOT / "src")) in held
    metadata = zipfile.ZipFile(wheel).read("belvedere-0.2.0.dist-info/METADATA").decode()
    needed = set(re.findall(r"^Requires-Dist: ([\w-]+)(?![^\n]*extra == (?!.serve.))", metadata, flags=re.MULTILINE))
    assert needed >= {"fastapi", "uvicorn", "prometheus-client", "python-multipart", "onnxruntime"}
    assert not needed & {"torch", "timm", "onnx"}


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {plain(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]}
    named = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    missing = {name for name in (plain(re.split(r"[\[<>=;!~ ]", each)[0]) for each in named) if name != "belvedere"}
    assert missing <= pinned


def test_the_containers_requirements_have_hashes_and_the_pinned_versions() -> None:
    text = (ROOT / "requirements-docker.txt").read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    locked = dict(line.split()[0].split("==") for line in lines)
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", line) for line in lines)
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()[1:])
    versions = {plain(name): version for name, version in pinned.items()}
    assert {name: version for name, version in locked.items() if versions.get(plain(name), version) != version} == {}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = project["dependencies"] + project["optional-dependencies"]["serve"]
    needed = {plain(re.split(r"[\[<>=;!~ ]", each)[0]) for each in named}
    assert needed <= {plain(name) for name in locked}


def plain(name: str) -> str:
    return name.strip().lower().replace("_", "-")
