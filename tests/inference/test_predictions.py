"""Predictions by class name, as tables, and in a notebook; models that are shown, copied and shared."""

import asyncio
import json
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import belvedere
from belvedere.errors import InvalidImageError, InvalidModelError, MissingDependencyError, UsageError
from belvedere.inference.display import MAX_COLUMNS
from belvedere.inference.model import Model, load_model
from belvedere.inference.model_paths import BUNDLED
from belvedere.inference.predictions import Predictions
from belvedere.runtime import dependencies
from belvedere.types.prediction import Prediction, Tag
from conftest import CLASS_NAMES, MODEL, make_pixels, make_prediction, write_image
from notebook_html import NotebookHtml

BATCH = np.stack([make_pixels(CLASS_NAMES[number % 3], number) for number in range(100)])


def test_probabilities_are_by_class_name(opened: Model) -> None:
    [prediction] = opened.predict(make_pixels("red"))
    assert tuple(prediction.probabilities) == CLASS_NAMES
    assert prediction.probabilities["red"] == prediction.confidence == max(prediction.probability_values)
    assert prediction.tag_probabilities == {}
    assert prediction.class_names is opened.class_names
    assert Prediction("x.png", error="empty file").probabilities == {}
    assert hash(prediction) == hash(opened.predict(make_pixels("red"))[0])


def test_a_dictionary_is_ready_for_json(opened: Model) -> None:
    good, bad = opened.predict([make_pixels("red"), b""])
    assert json.loads(json.dumps(good.to_dict()))["probabilities"] == good.probabilities
    assert bad.to_dict()["probabilities"] is None
    assert json.loads(json.dumps(opened.to_dict()))["card"]["class_names"] == list(CLASS_NAMES)


def test_short_texts(opened: Model) -> None:
    good, bad = opened.predict([make_pixels("red"), b""])
    assert repr(good) == f"Prediction('image', 'red', {good.confidence:.1%})"
    assert repr(bad) == "Prediction('image', error='empty file')"
    assert len(repr(opened)) < 200
    assert opened.sha256[:12] in repr(opened)


def test_a_slice_is_a_list_of_predictions(opened: Model) -> None:
    found = opened.predict(BATCH)
    assert isinstance(found[2:5], belvedere.Predictions)
    assert list(found[2:5]) == [found[2], found[3], found[4]]
    assert found[-1].image == "image"
    copy = pickle.loads(pickle.dumps(found))  # noqa: S301
    assert (copy, copy.class_names, copy.model) == (found, found.class_names, found.model)


def test_tables_have_the_columns_of_the_files(opened: Model, tmp_path: Path) -> None:
    write_image(tmp_path / "data/red.png", "red")
    (tmp_path / "data/torn.png").write_bytes(b"")
    found = opened.predict(tmp_path / "data")
    belvedere.predict(opened, tmp_path / "data", out=tmp_path / "p.parquet")
    belvedere.predict(opened, tmp_path / "data", out=tmp_path / "p.csv")
    parquet = pytest.importorskip("pyarrow.parquet")
    table, stored = found.to_arrow(), parquet.read_table(tmp_path / "p.parquet")
    assert (table.to_pylist(), table.column_names) == (stored.to_pylist(), stored.column_names)
    assert table.schema.metadata == stored.schema.metadata
    assert opened.predict([]).to_arrow().num_rows == 0
    pandas = pytest.importorskip("pandas")
    frame, written = found.to_pandas(), pandas.read_csv(tmp_path / "p.csv")
    assert list(frame.columns) == list(written.columns)
    assert frame["prob_red"].tolist() == pytest.approx(written["prob_red"].tolist(), abs=1e-6, nan_ok=True)
    assert frame["error"][1] == written["error"][1] == "empty file"
    assert list(opened.predict([]).to_pandas().columns) == list(written.columns)


def test_without_pandas_the_extra_is_named(opened: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"belvedere\[pandas\]"):
        opened.predict(BATCH).to_pandas()


def test_a_notebook_shows_images(opened: Model, tmp_path: Path) -> None:
    file = write_image(tmp_path / "<b>.png", "red", side=20)
    sources = [file, str(file), file.read_bytes(), make_pixels("red"), Image.open(file), b"", tmp_path / "gone.png"]
    shown = opened.predict(sources)._repr_html_()
    assert shown.count("data:image/jpeg") == 5
    assert "&lt;b&gt;" in shown
    assert "<b>.png" not in shown
    assert "no such file" in shown
    assert opened.predict(BATCH)._repr_html_().count("data:image/jpeg") == 20
    assert opened.predict(iter(BATCH))[3:]._repr_html_().count("data:image/jpeg") == 17
    assert opened.predict([])._repr_html_()
    assert "mean-color" in opened._repr_html_()


def test_a_notebook_shows_each_prediction_beside_its_image(opened: Model) -> None:
    """However the list was changed; the images of the first 20 predictions are kept."""

    def images_of(predictions: Predictions) -> list[str]:
        return re.findall('src="([^"]+)"', predictions._repr_html_())

    found = opened.predict([np.full((40, 40, 3), 10 * shade, np.uint8) for shade in range(22)])
    images = images_of(found)
    assert len(set(images)) == 20
    assert images_of(found[::-1]) == images[:1:-1]
    assert images_of(found[-5:]) == images[17:]
    copy: Predictions = pickle.loads(pickle.dumps(found))  # noqa: S301
    for each in (found, copy):
        del each[0]
        each.reverse()
        assert images_of(each) == images[:1:-1]


def test_a_notebook_shows_probabilities_and_tags() -> None:
    tags = (Tag("red", 0.7, 0.9), Tag("blue", 0.3, 0.8))
    several = replace(make_prediction("1.png", None, 0.2, 0.05, 0.75), tags=tags)
    found = Predictions([several, make_prediction("2.png", None)], CLASS_NAMES, MODEL)
    read = NotebookHtml(found._repr_html_())
    assert read.texts == [
        *("image", "answer", *CLASS_NAMES, "tags"),
        *("1.png", "red", "20.0%", "5.0%", "75.0%", "red 70%, blue 30%"),
        *("2.png", "not read: empty file"),
    ]


def test_a_notebook_lists_the_most_probable_of_many_classes() -> None:
    names = [f"class {index}" for index in range(MAX_COLUMNS + 1)]
    probabilities = [0.5, 0.3, 0.1, *[0.1 / (len(names) - 3)] * (len(names) - 3)]
    found = Predictions([make_prediction("1.png", None, *probabilities, names=names)], names, MODEL)
    read = NotebookHtml(found._repr_html_())
    assert read.texts == [
        *("image", "answer", "confidence", "other classes"),
        *("1.png", "class 0", "50.0%", "class 1 30.0%, class 2 10.0%"),
    ]


def test_embeddings_and_activation_maps(opened: Model, tmp_path: Path) -> None:
    file = write_image(tmp_path / "red.png", "red", side=20)
    found = opened.embed([file, make_pixels("red", 0, 20)])
    assert found.shape == (2, 3)
    assert found.dtype == np.float32
    assert (found[0] == found[1]).all()
    assert np.array_equal(opened.embed(BATCH), opened.forward(BATCH).embedding)
    assert opened.embed([]).shape == (0, 3)
    with pytest.raises(InvalidImageError, match="gone"):
        opened.embed([file, tmp_path / "gone.png"])
    with pytest.raises(InvalidModelError):
        opened.class_activation_maps(file)
    bundled = load_model()
    maps = bundled.class_activation_maps([file, file.read_bytes()])
    assert maps.shape[:2] == (2, len(bundled.class_names))
    assert np.allclose(maps[0], maps[1])
    with pytest.raises(UsageError):
        bundled.class_activation_maps([])
    with pytest.raises(InvalidImageError):
        bundled.class_activation_maps(b"")


def test_a_model_is_pickled_by_its_bytes(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_model.read_bytes())
    model = load_model(path, threads=2)
    content = pickle.dumps(model)
    path.unlink()
    copy = pickle.loads(content)  # noqa: S301
    assert copy.predict(BATCH) == model.predict(BATCH)
    assert (copy.name, copy.sha256, copy.options, copy.card) == (model.name, model.sha256, model.options, model.card)
    strict = load_model(BUNDLED, accept_rate=0.5)
    assert pickle.loads(pickle.dumps(strict)).fingerprint == strict.fingerprint  # noqa: S301


def test_a_model_in_a_process_that_is_started_anew(opened: Model) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(opened.predict, (BATCH,)) == opened.predict(BATCH)


FORK = """
import os, sys, threading, warnings
import numpy as np
from belvedere.inference.model import load_model
warnings.simplefilter("ignore")  # of Python 3.12, about forks beside threads
model = load_model(sys.argv[1])
images = np.random.default_rng(0).integers(0, 255, (100, 40, 40, 3), np.uint8)
expected = model.predict(images)
stop = threading.Event()
def work():
    while not stop.is_set():
        model.predict(images)
threads = [threading.Thread(target=work) for _ in range(2 if sys.argv[2] == "busy" else 0)]
for thread in threads:
    thread.start()
codes = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        os._exit(0 if model.predict(images) == expected else 3)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop.set()
for thread in threads:
    thread.join()
print(codes)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("parent", ["idle", "busy"])
def test_a_forked_process_predicts(parent: str, tiny_model: Path) -> None:
    command = [sys.executable, "-c", FORK, str(tiny_model), parent]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("[0, 0, 0]\n", "")


def test_threads_share_a_model(opened: Model) -> None:
    expected, found = opened.predict(BATCH), list[bool]()

    def work() -> None:
        found.extend(opened.predict(BATCH) == expected for _ in range(3))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 12


def test_asyncio(opened: Model) -> None:
    async def work() -> list[belvedere.Predictions]:
        return list(await asyncio.gather(*(asyncio.to_thread(opened.predict, BATCH) for _ in range(3))))

    assert asyncio.run(work()) == [opened.predict(BATCH)] * 3


def test_a_model_has_one_pool_and_one_image_none(tiny_model: Path) -> None:
    with load_model(tiny_model, threads=2) as model:
        model.predict(BATCH[0])
        assert model._pool._executor is None
        model.predict(BATCH)
        first = model._pool._executor
        model.predict(BATCH)
        model.embed(BATCH)
        assert model._pool._executor is first is not None


def test_an_iteration_that_ends_early_leaves_the_pool_usable(opened: Model) -> None:
    answers = opened.predict_iter(iter(np.concatenate([BATCH] * 8)))
    next(answers)
    del answers
    assert len(opened.predict(BATCH)) == 100
