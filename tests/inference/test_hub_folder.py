"""The folder for the Hugging Face Hub: its files, and a card that states what is known and nothing else."""

import json
import re
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from belvedere.errors import MissingDependencyError, OutputExistsError, UsageError
from belvedere.inference.export import export
from belvedere.inference.hub_card import escape
from belvedere.inference.hub_folder import FILES
from belvedere.inference.model import load_model
from belvedere.inference.model_card import card_to_metadata
from belvedere.runtime import hub
from belvedere.types.model import ModelCard, Preprocess, Uncertainty
from conftest import CARD, CLASS_NAMES, model_bytes, write_classes


def export_card(folder: Path, card: ModelCard, **options: Any) -> Path:
    """Export a model with a card, and return the folder for the Hub."""
    (folder / "model.onnx").write_bytes(model_bytes(card_to_metadata(card)))
    export(folder / "model.onnx", folder / "out", "hub", **options)
    return folder / "out"


def front_matter(folder: Path) -> dict[str, Any]:
    _, text, _ = (folder / "README.md").read_text("utf-8").split("---\n", 2)
    return dict(pytest.importorskip("yaml").safe_load(text))


def test_files_for_transformers(tiny_model: Path, tmp_path: Path) -> None:
    result = export(tiny_model, tmp_path / "out", "hub")
    assert result.comparison is not None
    assert result.comparison.agreement == 1
    assert result.comparison.max_change < 1e-5
    assert result.size_bytes == (tmp_path / "out/onnx/model.onnx").stat().st_size
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["id2label"] == {str(index): name for index, name in enumerate(CLASS_NAMES)}
    assert config["label2id"] == {name: index for index, name in enumerate(CLASS_NAMES)}
    processor = json.loads((tmp_path / "out/preprocessor_config.json").read_text())
    assert (processor["do_resize"], processor["do_rescale"], processor["do_normalize"]) == (False, True, False)
    assert (tmp_path / "out/model.onnx").read_bytes() == tiny_model.read_bytes()
    assert load_model(tmp_path / "out").class_names == CLASS_NAMES


def test_a_run_gives_metrics_weights_and_figures_without_images_and_paths(trained: Path, tmp_path: Path) -> None:
    export(trained / "run", tmp_path / "shades", "hub", calibration_data=trained / "images" / "train")
    folder = tmp_path / "shades"
    metrics = json.loads((trained / "run/metrics.json").read_text())
    [result] = front_matter(folder)["model-index"][0]["results"]
    assert result["dataset"]["split"] == "test"
    found = {each["name"]: each["value"] for each in result["metrics"]}
    assert found["Accuracy"] == round(metrics["accuracy"], 4)
    assert found["Log loss"] == round(metrics["log_loss"], 4)
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {"confusion-percent.png", "calibration.png", "weights.safetensors", "config.toml"} <= names
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name in names} - {
        ".belvedere"
    } == {*FILES}  # which are all that is uploaded
    assert names.isdisjoint({"mistakes.png", "images-1.png", "predictions.csv", "splits.csv", "metrics.json"})
    config = tomllib.loads((folder / "config.toml").read_text())
    assert config["run"] == {"class_names": ["dark", "light"]}
    assert config["recipe"] == tomllib.loads((trained / "run/config.toml").read_text())["recipe"]
    text = (folder / "README.md").read_text()
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (folder / link).exists(), link
    assert "| dark |" in text
    for path in folder.rglob("*"):
        assert not path.is_file() or str(trained).encode() not in path.read_bytes(), path


def test_a_file_that_was_replaced_changes_nothing(tmp_path: Path) -> None:
    run, other = tmp_path / "run", replace(CARD, class_names=CLASS_NAMES[::-1])
    run.mkdir()
    (run / "model.onnx").write_bytes(model_bytes(card_to_metadata(CARD)))
    (run / "weights.safetensors").write_bytes(b"weights")
    (run / "config.toml").write_text("[run]\nclass_names = []\n[recipe]\n")
    model = load_model(run)
    for content in (model.content, model_bytes(card_to_metadata(other))):
        (run / "model.onnx").write_bytes(content)
        export(model, tmp_path / "out", "hub", overwrite=True)
        assert (tmp_path / "out/model.onnx").read_bytes() == model.content
        assert (tmp_path / "out/weights.safetensors").is_file() == (content == model.content)


def test_metrics_of_another_model_are_left_out(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "run", run)
    metrics = json.loads((run / "metrics.json").read_text())
    contents: list[object] = [metrics | {"model": {"sha256": "0" * 64}}, {}, []]
    for content in contents:
        (run / "metrics.json").write_text(json.dumps(content))
        export(run, tmp_path / "out", "hub", overwrite=True)
        assert "model-index" not in front_matter(tmp_path / "out")
        assert not (tmp_path / "out/confusion-percent.png").exists()
        assert "None are known" in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize(
    ("known", "given", "expected"),
    [
        ({}, None, None),
        ({"license": "apache-2.0"}, None, "apache-2.0"),
        ({"license": "not stated: ask its authors"}, None, None),
        ({"license": "apache-2.0"}, "mit", "mit"),
    ],
)
def test_a_license_is_stated_only_if_known(
    tmp_path: Path, known: dict[str, str], given: str | None, expected: str | None
) -> None:
    origin = {"weights": "timm/some_network.in1k", "sha256": "0"} | known
    card = replace(CARD, provenance=replace(CARD.provenance, pretrained_from=origin))
    matter = front_matter(export_card(tmp_path, card, license=given))
    assert matter.get("license") == expected
    assert matter["base_model"] == "timm/some_network.in1k"
    assert matter["pipeline_tag"] == "image-classification"
    assert matter["library_name"] == "belvedere"


def test_the_card_says_whether_there_is_a_none_of_these(tmp_path: Path) -> None:
    assert '"none of these"' not in (export_card(tmp_path, CARD) / "README.md").read_text()
    fitted = Uncertainty(num_calibration_images=200, ood_score_quantiles=(0.1, 0.5, 0.9), ood_acceptance=0.97)
    text = (export_card(tmp_path, replace(CARD, uncertainty=fitted), overwrite=True) / "README.md").read_text()
    assert 'predicts "none of these"' in text
    assert "97% of 200 images" in text


def test_every_class_name_of_a_run_is_read_again(trained: Path, tmp_path: Path) -> None:
    """With the names and numbers that TOML writes differently from JSON."""
    names = ["cat \U0001f63a", '"it\'s"\\', "a\tb\nc\x00\x1f\x7f\u2028", ""]
    run, config = tmp_path / "run", tomllib.loads((trained / "run/config.toml").read_text())
    shutil.copytree(trained / "run", run)
    config["run"]["class_names"] = names
    config["recipe"] |= {"weight_decay": float("inf"), "teacher": "mine", "epochs": 3}
    (run / "config.toml").write_text(tomli_w.dumps(config), "utf-8")
    export(run, tmp_path / "out", "hub")
    written = tomllib.loads((tmp_path / "out/config.toml").read_text("utf-8"))
    assert written == {"run": {"class_names": names}, "recipe": config["recipe"] | {"teacher": ""}}


@pytest.mark.parametrize("key", ["split", "per_class", "num_images", "accuracy"])
def test_incomplete_metrics_are_named(trained: Path, tmp_path: Path, key: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "run", run)
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics[key]
    (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UsageError, match=rf"metrics\.json.*'{key}'"):
        export(run, tmp_path / "out", "hub")
    assert not (tmp_path / "out").exists()


def test_names_are_text_in_the_card(tmp_path: Path) -> None:
    names = ("a|b", "<b>x</b>", "[c](d)\n---")
    text = (export_card(tmp_path, replace(CARD, class_names=names)) / "README.md").read_text()
    assert all(escape(name) in text for name in names)
    assert "<b>" not in text
    assert text.count("\n---\n") == 1


def test_every_rule_of_resizing_is_exported(tmp_path: Path) -> None:
    for rule in ("crop", "letterbox"):
        card = replace(CARD, preprocess=Preprocess(8, 8, rule, "bicubic"))
        processor = json.loads((export_card(tmp_path, card, overwrite=True) / "preprocessor_config.json").read_text())
        assert processor["resample"] == 3


def test_arguments_of_other_formats_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    images = write_classes(tmp_path / "images", 12)
    invalid: list[dict[str, Any]] = [{"license": "My License"}, {"tta": False}]
    for options in invalid:
        with pytest.raises(UsageError):
            export(tiny_model, tmp_path / "out", "hub", **options)
    invalid = [{}, {"calibration_data": images, "license": "mit"}]
    for options in invalid:
        with pytest.raises(UsageError):
            export(tiny_model, tmp_path / "x.onnx", "nchw", **options)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("mine")
    with pytest.raises(OutputExistsError):
        export(tiny_model, tmp_path / "mine", "hub", overwrite=True)
    assert not (tmp_path / "out").exists()


def test_without_huggingface_hub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("belvedere.runtime.dependencies.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"belvedere\[hub\]"):
        load_model("hf://user/model")
    with pytest.raises(MissingDependencyError, match=r"belvedere\[hub\]"):
        hub.upload("user/model", {}, private=False, message="")
