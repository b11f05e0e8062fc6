import errno
import json
import os
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from belvedere.data.labels import compose
from belvedere.errors import InvalidModelError, UsageError
from belvedere.images.inputs import Source
from belvedere.images.listing import count_images, iter_images
from belvedere.inference.embeddings import model_embedder
from belvedere.inference.model import Model, load_model, open_model
from belvedere.inference.model_card import card_from_metadata, card_to_metadata
from belvedere.inference.model_graph import BATCH_SIZE, INPUT, OUTPUTS
from belvedere.types.model import Preprocess
from conftest import CARD, CLASS_NAMES, COLORS, make_pixels, model_bytes, write_classes, write_image

METADATA = card_to_metadata(CARD)


def refusal(path: Path) -> str:
    with pytest.raises(InvalidModelError) as caught:
        load_model(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def image_bytes(name: str) -> bytes:
    red, green, blue = COLORS[name]
    return b"P6 1 1 255\n" + bytes((red, green, blue))


# The card


def test_card_survives_its_metadata() -> None:
    assert card_from_metadata(METADATA, "m") == CARD
    card = replace(CARD, provenance=replace(CARD.provenance, data_minhash=("0a", "1b")))
    assert card_from_metadata(card_to_metadata(card), "m") == card


def test_a_card_without_a_sketch_is_of_an_older_version() -> None:
    made = {key: value for key, value in json.loads(METADATA["provenance"]).items() if key != "data_minhash"}
    assert card_from_metadata(METADATA | {"provenance": json.dumps(made)}, "m") == CARD


def test_embeddings_of_another_file_with_the_same_card_are_kept_apart(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / f"{name}.onnx").write_bytes(model_bytes(METADATA | {"note": name}))
    one, other = (model_embedder(load_model(tmp_path / f"{name}.onnx")) for name in ("one", "other"))
    assert one.model.card == other.model.card
    assert one.name != other.name
    assert one.name == model_embedder(open_model((tmp_path / "one.onnx").read_bytes(), "renamed.onnx")).name


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(compose), min_size=1, unique=True))
def test_any_class_names_survive(names: list[str]) -> None:
    card = replace(CARD, class_names=tuple(names))
    assert card_from_metadata(card_to_metadata(card), "m") == card


def test_class_names_are_in_unicode_form_nfc_as_labels_are() -> None:
    card = replace(CARD, class_names=("cafe\u0301", "green", "red"))
    assert card_from_metadata(card_to_metadata(card), "m").class_names == ("caf\u00e9", "green", "red")


def test_card_is_in_the_file(tiny_model: Path) -> None:
    assert load_model(tiny_model).card == CARD
    assert load_model(str(tiny_model.parent)).class_names == CLASS_NAMES


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, "None"),
        (METADATA | {"format": "belvedere/9"}, "'belvedere/9'"),
        ({key: value for key, value in METADATA.items() if key != "layers"}, "'layers'"),
        (METADATA | {"class_names": '["a", "b"]'}, "(2,)"),
        (METADATA | {"preprocess": '{"height": 9, "width": 8}'}, "(9, 8, 3)"),
    ],
)
def test_file_with_other_metadata_is_refused(metadata: dict[str, str], expected: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model_bytes(metadata))
    assert expected in refusal(path)


@pytest.mark.parametrize(
    "damaged", [{"class_names": "["}, {"provenance": "{}"}, {"preprocess": "5"}, {"uncertainty": "null"}]
)
def test_file_with_damaged_metadata_is_refused(damaged: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model_bytes(METADATA | damaged))
    with pytest.raises(InvalidModelError) as caught:
        card_from_metadata(METADATA | damaged, str(path))
    assert refusal(path) == str(caught.value)


# What is no model


@pytest.mark.parametrize("name", ["missing.onnx", "empty-folder", "x" * 300, "nul\0", "a/file/is/no/folder"])
def test_nothing_there_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty-folder").mkdir()
    (tmp_path / "a").touch()
    assert " model.onnx " in refusal(tmp_path / name)


@pytest.mark.parametrize(
    "content", [b"", b"This is no model.\n" * 9, model_bytes(METADATA)[:-400], model_bytes(METADATA)[:100], b"PK\3\4"]
)
def test_file_that_is_no_whole_onnx_is_refused(
    content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert " model.onnx " in refusal(path)  # what to give
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("renamed", [{"embedding": "features"}, {"images": "input"}, {"probabilities": "softmax"}])
def test_other_inputs_and_outputs_are_refused(renamed: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model_bytes(METADATA, renamed=renamed))
    message = refusal(path)
    assert all(name in message for name in (INPUT, *OUTPUTS))


def test_foreign_onnx_is_refused(tmp_path: Path) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1,)) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    path = tmp_path / "model.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    assert ": y. " in refusal(path)


def test_graph_without_a_card_says_so() -> None:
    model = Model.from_bytes(model_bytes({}), None, "m.onnx")
    with pytest.raises(InvalidModelError, match=r"m\.onnx"):
        _ = model.class_names


def test_card_that_does_not_fit_its_graph_is_refused() -> None:
    with pytest.raises(InvalidModelError, match=r"\(150, 150, 3\)"):
        Model.from_bytes(model_bytes({}), replace(CARD, preprocess=Preprocess(150, 150)))


# Answers


def test_graph_is_run(opened: Model) -> None:
    outputs = opened.forward(np.stack([make_pixels(name) for name in ("red", "blue")]))
    assert outputs.probabilities.argmax(1).tolist() == [2, 0]
    assert np.allclose(outputs.probabilities.sum(1), 1)
    assert np.allclose(outputs.embedding, [make_pixels(name).mean((0, 1)) for name in ("red", "blue")])
    assert np.allclose(outputs.logits, outputs.embedding[:, ::-1] / 50)


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_file_bytes_and_folder_get_the_same_answer(name: str, opened: Model, tmp_path: Path) -> None:
    path = write_image(tmp_path / "in/deep/x.png", name, side=20)
    answers = [opened.predict(source)[0] for source in (path, str(path), path.read_bytes(), tmp_path, [tmp_path])]
    assert {answer.predicted_label for answer in answers} == {name}
    assert len({answer.probability_values for answer in answers}) == 1
    assert [answer.image for answer in answers] == [str(path), str(path), "image", str(path), str(path)]
    assert answers[0].confidence == max(answers[0].probability_values)
    assert answers[0].error is None


def test_several_sources_are_answered_in_order(opened: Model, tmp_path: Path) -> None:
    write_classes(tmp_path / "photos", 2)
    (tmp_path / "photos/red/notes.txt").touch()
    alone = write_image(tmp_path / "alone.png", "green")
    sources: list[Source] = [alone, tmp_path / "photos", alone.read_bytes(), str(tmp_path / "gone.png")]
    answers = opened.predict(iter(sources))
    named = ["green", "blue", "blue", "green", "green", "red", "red", "green", None]
    assert [answer.predicted_label for answer in answers] == named
    assert answers[-1].error == "no such file"
    assert opened.predict([]) == []


def test_unreadable_files_get_their_own_row_and_no_other_answer(opened: Model, tmp_path: Path) -> None:
    sources: list[Path | bytes] = []
    for number in range(3 * BATCH_SIZE + 10):
        path = tmp_path / f"{number}.png"
        kind = number % 7
        if kind == 0:
            path.write_bytes(b"no image" * kind)
        elif kind == 1:
            path.write_text("no image")
        elif kind != 2:
            write_image(path, CLASS_NAMES[number % 3], number, side=8 + number % 5)
        sources.append(path.read_bytes() if kind == 6 else path)
    shuffled = random.Random(3).sample(sources, len(sources))  # noqa: S311
    answers = opened.predict(shuffled)
    alone = [opened.predict(source)[0] for source in shuffled]
    assert [(a.image, a.predicted_label, a.error) for a in answers] == [
        (a.image, a.predicted_label, a.error) for a in alone
    ]
    assert all(
        np.allclose(a.probability_values, b.probability_values, atol=1e-6) for a, b in zip(answers, alone, strict=True)
    )
    assert {answer.error for answer in answers} == {
        None,
        "empty file",
        "text instead of an image: get the file again",
        "no such file",
    }
    for answer in answers:
        assert (answer.predicted_label is None) == (answer.error is not None) == (answer.probabilities == {})


@pytest.mark.parametrize("count", [1, BATCH_SIZE - 1, BATCH_SIZE, BATCH_SIZE + 1])
def test_batches_of_any_size_and_batches_without_an_image(count: int, opened: Model) -> None:
    good = image_bytes("green")
    answers = opened.predict([b"bad"] * BATCH_SIZE + [good] * count)
    assert [answer.predicted_label for answer in answers] == [None] * BATCH_SIZE + ["green"] * count


def test_sources_are_taken_as_they_are_needed(opened: Model) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield image_bytes("red")

    answers = opened.predict_iter(endless())
    assert [answer.predicted_label for answer in islice(answers, 10)] == ["red"] * 10
    assert taken < 1000
    for _ in islice(answers, 2000):
        pass
    assert taken < 2010 + 1000


def test_notes_of_reading_are_passed_on(opened: Model, tmp_path: Path) -> None:
    frames = [Image.fromarray(make_pixels(name)) for name in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert opened.predict(tmp_path / "x.gif")[0].warnings == ("first of 2 frames",)


# Folders to files


def test_folders_are_expanded_and_counted(tmp_path: Path) -> None:
    write_classes(tmp_path, 2, ("red",))
    sources: list[Source] = [tmp_path, b"bytes", "gone.png", "x" * 300, "nul\0"]
    assert list(iter_images(sources)) == [tmp_path / "red/0.png", tmp_path / "red/1.png", *sources[1:]]
    assert count_images(sources) == 6
    assert count_images(sources, limit=5) is None


def test_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(UsageError, match=f"{re.escape(str(tmp_path))}: {os.strerror(errno.EACCES)}"):
        list(iter_images([tmp_path]))


def test_long_name_is_an_answer_with_a_reason(opened: Model) -> None:
    assert [answer.error is None for answer in opened.predict(["x" * 300, "nul\0"])] == [False, False]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("class_names", '"xyz"'),
        ("class_names", '["blue", "blue", "red"]'),
        ("class_names", '["", "green", "red"]'),
        ("class_names", "[1, 2, 3]"),
        ("class_names", "not json"),
        ("preprocess", '{"height": "8", "width": 8, "resize": "stretch"}'),
        ("preprocess", '{"height": 8, "width": 8, "resize": "weird"}'),
        ("provenance", "{}"),
        ("layers", '[{"name": "a", "kind": "b", "shape": [1], "parameters": "x", "trainable": 0}]'),
    ],
)
def test_metadata_that_was_tampered_with_is_refused(tiny_model: Path, key: str, value: str) -> None:
    metadata = card_to_metadata(load_model(tiny_model).card) | {key: value}
    with pytest.raises(InvalidModelError):
        card_from_metadata(metadata, "m")


def test_a_provenance_of_the_wrong_kinds_is_refused(tiny_model: Path) -> None:
    good = card_to_metadata(load_model(tiny_model).card)
    for key, wrong in (("training_seconds", "long"), ("versions", None), ("interrupted", 1), ("epochs", True)):
        made = json.loads(good["provenance"]) | {key: wrong}
        with pytest.raises(InvalidModelError, match=key):
            card_from_metadata(good | {"provenance": json.dumps(made)}, "m")
