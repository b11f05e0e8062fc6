"""The command push, and models on the Hugging Face Hub, with its own library and a hub on this machine."""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from onnx import ModelProto, TensorProto

from belvedere.errors import UsageError
from belvedere.inference.export import export
from belvedere.inference.model import load_model
from belvedere.inference.model_card import card_to_metadata
from belvedere.inference.push import push
from command_line import assert_one_line, belvedere
from conftest import CARD, model_bytes, write_classes, write_image
from fake_hub import READ_TOKEN, WRITE_TOKEN, Hub, Repository, run_hub

NAME, ADDRESS = "me/colors", "hf://me/colors"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with run_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
        monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")  # the server knows LFS only
        yield server


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    export(tiny_model, tmp_path / "colors", "hub", license="mit")
    return tmp_path / "colors"


def put(hub: Hub, files: dict[str, bytes], name: str = NAME) -> str:
    """Put files into a repository without an upload, and return the commit."""
    return hub.repositories.setdefault(name, Repository()).commit(files)


def predict(*arguments: object) -> list[str]:
    done = belvedere("predict", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return [each["predicted_label"] for each in json.loads(done.stdout)["predictions"]]


def test_a_pushed_model_is_opened_by_its_address(hub: Hub, folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    done = belvedere("push", folder, NAME)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{hub.url}/{NAME}"
    files = hub.repositories[NAME].files
    assert sorted(files) == ["README.md", "config.json", "model.onnx", "onnx/model.onnx", "preprocessor_config.json"]
    assert files["model.onnx"] == tiny_model.read_bytes()
    assert not hub.repositories[NAME].private
    card = files["README.md"].decode()
    assert hub.cards == [card]  # as it was checked
    assert f'load_model("{ADDRESS}")' in card
    assert "USER/NAME" not in card
    assert "USER/NAME" in (folder / "README.md").read_text()
    image = write_image(tmp_path / "1.png", "red")
    assert predict(ADDRESS, image) == predict("--model", ADDRESS, image) == ["red"]
    assert belvedere("show", ADDRESS).returncode == 0
    evaluated = belvedere("evaluate", ADDRESS, write_classes(tmp_path / "data", 2), "--json")
    [commit] = hub.repositories[NAME].commits
    assert json.loads(evaluated.stdout)["model"]["name"] == f"{ADDRESS}@{commit}"


def test_a_revision_is_opened(hub: Hub, tiny_model: Path, tmp_path: Path) -> None:
    other = card_to_metadata(replace(CARD, class_names=("azure", "grass", "rose")))
    commits = [put(hub, {"model.onnx": content}) for content in (tiny_model.read_bytes(), model_bytes(other))]
    image = write_image(tmp_path / "1.png", "red")
    assert predict(ADDRESS, image) == predict(f"{ADDRESS}@{commits[1]}", image) == ["rose"]
    assert predict(f"{ADDRESS}@{commits[0]}", image) == ["red"]


def test_a_private_model_needs_the_token(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert belvedere("push", folder, NAME, "--private").returncode == 0
    assert hub.repositories[NAME].private
    image = write_image(tmp_path / "1.png", "red")
    monkeypatch.delenv("HF_TOKEN")
    assert_one_line(belvedere("predict", ADDRESS, image), 1, ADDRESS, "HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    assert predict(ADDRESS, image) == ["red"]


def test_nothing_private_is_uploaded_to_a_public_repository(hub: Hub, folder: Path) -> None:
    put(hub, {"README.md": b"mine"})
    assert_one_line(belvedere("push", folder, NAME, "--private"), 1, "public")
    assert hub.repositories[NAME].files == {"README.md": b"mine"}


def test_a_second_push_keeps_other_files(hub: Hub, folder: Path) -> None:
    put(hub, {"notes.md": b"mine", "README.md": b"old"})
    assert belvedere("push", folder, NAME, "--message", "Second").returncode == 0
    assert hub.repositories[NAME].files["notes.md"] == b"mine"
    assert hub.repositories[NAME].files["README.md"] != b"old"


def test_a_dry_run_lists_the_files_and_sends_nothing(hub: Hub, folder: Path) -> None:
    (folder / ".secret").write_text("hidden")
    done = belvedere("push", folder, NAME, "--dry-run", "--json")
    listed = json.loads(done.stdout)
    assert listed["url"] is None
    assert {name for name, _ in listed["files"]} >= {"README.md", "model.onnx", "onnx/model.onnx"}
    assert not any("secret" in name or name == ".belvedere" for name, _ in listed["files"])
    assert hub.received == []


@pytest.mark.parametrize(("token", "word"), [("", "no token"), ("hf_wrong", "invalid"), (READ_TOKEN, "write access")])
def test_what_the_hub_refuses_is_one_line(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, token: str, word: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert_one_line(belvedere("push", folder, NAME), 1, NAME, word)
    assert hub.repositories == {}


def test_other_folders_and_names_are_not_uploaded(hub: Hub, folder: Path, trained: Path) -> None:
    assert_one_line(belvedere("push", trained / "run", NAME), 2, "README.md")
    (folder / "predictions.csv").write_text("image\n")
    assert_one_line(belvedere("push", folder, NAME), 2, "predictions.csv")
    (folder / "predictions.csv").unlink()
    (folder / "onnx/splits.csv").write_text("sha256\n")
    assert_one_line(belvedere("push", folder, NAME), 2, "splits.csv")
    (folder / "onnx/splits.csv").unlink()
    for name, target in (("history.png", trained / "run/config.toml"), ("more", trained / "run")):
        (folder / name).symlink_to(target)
        with pytest.raises(UsageError, match="link"):
            push(folder, NAME)
        (folder / name).unlink()
    assert_one_line(belvedere("push", folder, "colors"), 2, "REPOSITORY")
    for name in ("a/b/c", "me/../x", "me/..", ADDRESS):
        with pytest.raises(UsageError):
            push(folder, name)
    (folder / "model.onnx").write_bytes(b"no graph")
    assert_one_line(belvedere("push", folder, NAME), 1, "model.onnx")
    assert hub.received == []


def test_addresses_without_a_model_are_one_line(hub: Hub, tmp_path: Path) -> None:
    image = write_image(tmp_path / "1.png", "red")
    assert_one_line(belvedere("predict", "hf://me/nothing", image), 1, "no such repository")
    put(hub, {"README.md": b"# no model"})
    assert_one_line(belvedere("predict", ADDRESS, image), 1, "model.onnx", "no such file")
    assert_one_line(belvedere("predict", f"{ADDRESS}@v9", image), 1, "no such revision")
    hub.repositories[NAME].gated = True
    assert_one_line(belvedere("predict", ADDRESS, image), 1, "gated")
    assert_one_line(belvedere("predict", "hf://colors", image), 2, "user/name")
    for address in (
        "hf://a/b/c",
        "hf://../../x",
        "hf://me/..",
        "hf://me/colors@",
        f"{ADDRESS}@../x",
        f"{ADDRESS}@a/../x",
    ):
        with pytest.raises(UsageError):
            load_model(address)


def test_a_hostile_model_is_refused(hub: Hub, tmp_path: Path, tiny_model: Path) -> None:
    image = write_image(tmp_path / "1.png", "red")
    model = ModelProto.FromString(tiny_model.read_bytes())
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    for content, word in ((model.SerializeToString(), "external_data"), (b"\x80\x04.", "ONNX")):
        put(hub, {"model.onnx": content})
        assert_one_line(belvedere("predict", ADDRESS, image), 1, word)


def test_offline_the_cached_model_is_opened(
    hub: Hub, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(hub, {"model.onnx": tiny_model.read_bytes()})
    image = write_image(tmp_path / "1.png", "red")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert_one_line(belvedere("predict", ADDRESS, image), 1, "HF_HUB_OFFLINE")
    assert hub.received == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert predict(ADDRESS, image) == ["red"]
    for name, value in (("HF_HUB_OFFLINE", "1"), ("HF_ENDPOINT", "http://127.0.0.1:9")):
        hub.received.clear()
        monkeypatch.setenv(name, value)
        assert predict(ADDRESS, image) == ["red"]
        assert hub.received == []


def test_a_cached_model_is_not_replaced(hub: Hub, tiny_model: Path, tmp_path: Path) -> None:
    put(hub, {"model.onnx": tiny_model.read_bytes()})
    done = belvedere("calibrate", ADDRESS, write_classes(tmp_path / "data", 20), "--overwrite")
    assert_one_line(done, 2, "--out")


def test_a_training_starts_from_a_pushed_run(hub: Hub, trained: Path, tmp_path: Path) -> None:
    export(trained / "run", tmp_path / "shades", "hub")
    assert belvedere("push", tmp_path / "shades", NAME).returncode == 0
    files = hub.repositories[NAME].files
    assert {"weights.safetensors", "config.toml", "confusion-percent.png"} <= files.keys()
    assert tomllib.loads(files["config.toml"].decode())["run"].keys() == {"class_names"}
    assert b"accuracy" in files["README.md"]
    arguments = (trained / "images", "--start-from", ADDRESS, "--epochs", 1, "--out", tmp_path / "next")
    done = belvedere("train", *arguments)
    assert done.returncode == 0, done.stderr
    assert "Classes: 2 kept" in done.stderr
    [commit] = hub.repositories[NAME].commits
    shown = json.loads(belvedere("show", tmp_path / "next", "--json").stdout)
    assert shown["provenance"]["pretrained_from"]["run"].startswith(f"{ADDRESS}@{commit}, SHA-256 ")
    printed = belvedere("train", "--start-from", ADDRESS, "--print-config")
    assert "epochs = 3" in printed.stdout
    put(hub, {"model.onnx": b""}, "me/other")
    assert_one_line(belvedere("train", "data", "--start-from", "hf://me/other"), 1, "config.toml", "no such file")
