"""Several models in one server: named by routes, metrics and errors, and watched one by one."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import belvedere
from belvedere.errors import UsageError
from conftest import CLASS_NAMES
from serve_process import PATIENCE, Server, activation_map_model, png, serve, wait_until

OTHERS = ("ash", "birch", "cedar")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    for name, classes in (("colors", CLASS_NAMES), ("trees", OTHERS)):
        (folder / name).mkdir()
        (folder / name / "model.onnx").write_bytes(activation_map_model(classes))
    return {name: folder / name for name in ("colors", "trees")}


@pytest.fixture(scope="module")
def server(folders: dict[str, Path]) -> Iterator[Server]:
    with serve(*(f"--model={name}={path}" for name, path in folders.items())) as running:
        yield running


def predicted(server: Server, path: str) -> str:
    return str(server.post_raw(png("red"), path).json["predictions"][0]["predicted_label"])


def test_routes_name_the_models_and_the_first_is_the_default(server: Server) -> None:
    assert predicted(server, "/predict") == predicted(server, "/models/colors/predict") == "red"
    assert predicted(server, "/models/trees/predict") == "cedar"
    assert server.get("/model").json == server.get("/models/colors").json
    assert server.get("/models/trees").json["card"]["class_names"] == list(OTHERS)
    listed = server.get("/models").json["models"]
    assert [each["served_name"] for each in listed] == ["colors", "trees"]
    assert [each["name"] for each in listed] == ["colors/model.onnx", "trees/model.onnx"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_models_are_named(server: Server, method: str) -> None:
    path = "/models/none" if method == "GET" else "/models/none/predict"
    reply = server.ask(method, path, png("red"), {"Content-Type": "image/png"})
    assert (reply.status, reply.code) == (404, "unknown_model")
    assert "colors, trees" in reply.json["error"]["message"]


def test_metrics_have_the_name_of_the_model(server: Server) -> None:
    text = server.get("/metrics").content.decode()
    for name in ("colors", "trees"):
        assert f'belvedere_model_info{{model="{name}",name="{name}/model.onnx"' in text
        assert f'belvedere_reloads_total{{model="{name}",outcome="rejected"}} 0.0' in text

    def images(name: str) -> float:
        return server.metric(f'belvedere_images_total{{model="{name}",outcome="predicted"}}')

    before = images("colors"), images("trees")
    predicted(server, "/models/trees/predict")
    assert (images("colors"), images("trees")) == (before[0], before[1] + 1)
    assert server.metric('belvedere_batch_size_count{model="trees"}') >= 1


def test_one_model_is_replaced_and_the_other_stays(tmp_path: Path, folders: dict[str, Path]) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(activation_map_model())
    with serve(file, f"--model=trees={folders['trees']}") as server:
        names = [each["served_name"] for each in server.get("/models").json["models"]]
        assert names == ["default", "trees"]
        new = tmp_path / "new"
        new.write_bytes(activation_map_model(("elm", "fir", "gum")))
        new.replace(file)
        wait_until(lambda: server.metric('belvedere_reloads_total{model="default",outcome="loaded"}') == 1)
        assert predicted(server, "/models/default/predict") == "gum"
        assert predicted(server, "/models/trees/predict") == "cedar"
        assert server.metric("belvedere_model_info") == 2
        file.write_bytes(b"no model")
        wait_until(lambda: server.get("/models/default").json["reload_error"] is not None)
        assert server.get("/models/trees").json["reload_error"] is None
        assert server.get("/readyz").status == 200
        assert server.end() == 0


def test_bundled_model_is_not_served_beside_named_ones(server: Server) -> None:
    assert server.get("/models/default").status == 404


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "run"], "no name and path: 'run'"),
        (["--model", "scenes="], "no name and path"),
        (["--model", "a/b=run"], "Not a name of a model: 'a/b'"),
        (["--model", "=run"], "Not a name of a model: ''"),
        (["--model", "a=gone", "--model", "a=run"], "Two models are called 'a'"),
        (["gone", "--model", "default=run"], "Two models are called 'default'"),
        (["--model", "a=gone"], "no file or folder gone"),
        (["--root-path", "belvedere"], "Not a path of a server: 'belvedere'"),
    ],
)
def test_invalid_models_get_one_line(arguments: list[str], words: str) -> None:
    command = [sys.executable, "-m", "belvedere", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode in (1, 2)
    [line] = done.stderr.strip().splitlines()
    assert words in line


def test_several_models_in_python(folders: dict[str, Path]) -> None:
    models = {name: belvedere.load_model(path) for name, path in folders.items()}
    with belvedere.serve(models, port=0, block=False) as server:
        assert server.is_running
    with pytest.raises(UsageError, match="models"):
        belvedere.serve({}, port=0, block=False)
