"""belvedere calibrate, and what tags, heat-maps and areas come to from a file to an answer."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import belvedere
from belvedere.data.dataset import load_dataset
from belvedere.errors import CalibrationError, DatasetError, OutputExistsError, UnknownNameError, UsageError
from belvedere.evaluation.evaluate import evaluate
from belvedere.evaluation.report.sinks import Heatmaps
from belvedere.images.decode import read_inputs
from belvedere.inference.batch import predict_files
from belvedere.inference.model import load
from belvedere.inference.model_card import replace_metadata
from belvedere.runtime.progress import Progress
from belvedere.training.distillation import multilabel_targets
from belvedere.types.model import Preprocess, TagModel, Trust
from conftest import CARD, CLASS_NAMES, COLOURS
from serve_process import evidence_model

RULE = TagModel((3.0, 3.0, 3.0), (-8.0, -8.0, -8.0), fitted_on=100)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The tiny model with evidence of four quarters, and tags."""
    file = tmp_path / "model.onnx"
    file.write_bytes(replace_metadata(evidence_model(), replace(CARD, trust=Trust(0.5, 100, tags=RULE))))
    return file


def write_halves(path: Path, left: str, right: str) -> Path:
    pixels = np.full((8, 8, 3), COLOURS[left], np.uint8)
    pixels[:, 4:] = COLOURS[right]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_table(folder: Path, count: int = 40, areas: bool = False) -> Path:
    """Pictures of one colour or two; where there is red, blue is said to be there too."""
    with (folder / "tagged.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label"])
        for number in range(count):
            left, right = (CLASS_NAMES[number % 3], CLASS_NAMES[number // 3 % 3])
            write_halves(folder / f"{number}.png", left, right)
            labels = [left] if left == right else [left, right]
            share = ":0.5" if left != right else ":1"
            rows.writerow([f"{number}.png", "|".join(f"{name}{share if areas else ''}" for name in labels)])
    return folder / "tagged.csv"


def test_a_picture_of_two_halves_has_two_tags(model: Path, tmp_path: Path) -> None:
    [answer] = load(model).predict(write_halves(tmp_path / "x.png", "blue", "red"))
    assert {tag.name for tag in answer.tags} == {"blue", "red"}
    assert answer.tags[0].name == answer.predicted_label
    assert [tag.share for tag in answer.tags] == pytest.approx([0.5, 0.5], abs=0.02)
    assert dict(zip(CLASS_NAMES, answer.tag_probabilities, strict=True))["green"] < 0.01


def test_tags_are_measured_with_their_shares(model: Path, tmp_path: Path) -> None:
    found = evaluate(load(model), load_dataset(write_table(tmp_path, areas=True))).tags
    assert found is not None
    assert found.micro_f1 == 1
    assert found.share_error is not None
    assert found.share_error < 0.02


def test_calibrating_writes_a_model_with_other_tags(model: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path)
    before = model.read_bytes()
    done = belvedere.calibrate(model, table, out=tmp_path / "fitted.onnx")
    assert model.read_bytes() == before
    rule = load(done.file).card.trust.tags
    assert rule is not None
    assert (rule.several_labels, rule.fitted_on) == (True, 40)
    assert done.after.micro_f1 is not None
    assert done.after.micro_f1 > 0.9
    picture = write_halves(tmp_path / "x.png", "green", "green")
    assert load(done.file).predict(picture)[0].probabilities == load(model).predict(picture)[0].probabilities


def test_without_out_the_model_itself_is_replaced(model: Path, tmp_path: Path) -> None:
    table, before = write_table(tmp_path), model.read_bytes()
    with pytest.raises(OutputExistsError, match="--overwrite"):
        belvedere.calibrate(model, table)
    assert model.read_bytes() == before
    assert belvedere.calibrate(model, table, overwrite=True).file == model
    rule = load(model).card.trust.tags
    assert rule is not None
    assert rule.several_labels


def test_calibrating_again_begins_where_training_ended(model: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path)
    once = belvedere.calibrate(model, table, out=tmp_path / "once.onnx")
    twice = belvedere.calibrate(once.file, table, out=tmp_path / "twice.onnx")
    assert (twice.before, twice.after) == (once.before, once.after)
    first, second = (load(each.file).card.trust for each in (once, twice))
    assert (second.tags, second.first_tags) == (first.tags, RULE)


def test_the_test_part_of_a_table_stays_aside(model: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path)
    rows = table.read_text().splitlines()
    parts = ["split", *("test" if number < 8 else "train" for number in range(40))]
    table.write_text("".join(f"{row},{part}\n" for row, part in zip(rows, parts, strict=True)))
    done = belvedere.calibrate(model, table, overwrite=True)
    assert (done.images, done.test_images) == (32, 8)


def test_photographs_that_go_away_are_left_out_or_not_missed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, said = write_table(tmp_path), list[str]()
    (tmp_path / "3.png").unlink()
    (tmp_path / "4.png").write_bytes(b"no picture")

    def read_and_lose(paths: Sequence[Path], preprocess: Preprocess) -> Iterator[object]:
        yield from read_inputs(paths, preprocess)
        (tmp_path / "0.png").unlink()

    class Hears(Progress):
        def say(self, message: str) -> None:
            said.append(message)

    monkeypatch.setattr("belvedere.evaluation.tag_calibration.read_inputs", read_and_lose)
    assert belvedere.calibrate(model, table, overwrite=True, progress=Hears()).images == 38
    assert [Path(line.split(": ")[1]).name for line in said] == ["3.png", "4.png"]


def test_another_file_is_only_replaced_when_asked(model: Path, tmp_path: Path) -> None:
    table, mine = write_table(tmp_path), tmp_path / "mine.txt"
    mine.write_text("mine")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        belvedere.calibrate(model, table, out=mine)
    assert mine.read_text() == "mine"
    belvedere.calibrate(model, table, out=mine, overwrite=True)
    assert load(mine).class_names == CLASS_NAMES


@pytest.mark.parametrize("place", ["model.onnx", "tagged.csv", "0.png", "linked.onnx", "link.onnx"])
def test_what_is_read_is_never_replaced_by_another_file(place: str, model: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path)
    (tmp_path / "linked.onnx").hardlink_to(model)
    (tmp_path / "link.onnx").symlink_to(model)
    before = (tmp_path / place).read_bytes()
    with pytest.raises(UsageError, match="is read by this command"):
        belvedere.calibrate(model, table, out=tmp_path / place, overwrite=True)
    assert (tmp_path / place).read_bytes() == before


@pytest.mark.parametrize("in_place", [True, False])
def test_tags_that_get_worse_are_refused(in_place: bool, model: Path, tmp_path: Path) -> None:
    """Labels by chance, but for half of the table: what is fitted to them is worth less on others."""
    table, chance = write_table(tmp_path), np.random.default_rng(0)
    head, *rows = table.read_text().splitlines()
    drawn = ["|".join(chance.permutation(CLASS_NAMES)[:2]) for _ in rows]
    mixed = (
        f"{row.split(',')[0]},{label}" if k % 2 else row for k, (row, label) in enumerate(zip(rows, drawn, strict=True))
    )
    table.write_text("\n".join([head, *mixed]))
    before, out = model.read_bytes(), None if in_place else tmp_path / "fitted.onnx"
    with pytest.raises(CalibrationError, match=r"micro F1 0\.\d+ before, 0\.\d+ after.*--force"):
        belvedere.calibrate(model, table, out=out, overwrite=True)
    assert model.read_bytes() == before
    assert not (tmp_path / "fitted.onnx").exists()
    done = belvedere.calibrate(model, table, out=out, force=True, overwrite=True)
    assert load(done.file).card.trust.tags != RULE


def test_what_else_a_file_says_of_itself_is_kept(model: Path, tmp_path: Path) -> None:
    graph = onnx.load(model)
    onnx.helper.set_model_props(graph, {entry.key: entry.value for entry in graph.metadata_props} | {"export": "{}"})
    onnx.save(graph, model)
    belvedere.calibrate(model, write_table(tmp_path), overwrite=True)
    assert {entry.key: entry.value for entry in onnx.load(model).metadata_props}["export"] == "{}"


def test_what_can_not_be_calibrated_is_told(model: Path, tiny_model: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path)
    with pytest.raises(UsageError, match="has no tags"):
        belvedere.calibrate(tiny_model, table)
    (tmp_path / "few").mkdir()
    few = write_table(tmp_path / "few", 10)
    with pytest.raises(DatasetError, match="Expected 30"):
        belvedere.calibrate(model, few, overwrite=True)
    table.write_text(table.read_text().replace("blue|red", "blue|rde"))
    with pytest.raises(UnknownNameError, match="red"):
        belvedere.calibrate(model, table, overwrite=True)
    table.write_text("image,label\n" + "".join(f"{number}.png,blue\n" for number in range(40)))
    with pytest.raises(DatasetError, match="several labels"):
        belvedere.calibrate(model, table, overwrite=True)


def test_heatmaps_are_a_picture_an_answer(model: Path, tmp_path: Path) -> None:
    pictures = [write_halves(tmp_path / "in" / "a.png", "blue", "red"), tmp_path / "in" / "broken.png"]
    pictures[1].write_bytes(b"no picture")
    predict_files(load(model), pictures, "jsonl", out=tmp_path / "x.jsonl", sinks=[Heatmaps(tmp_path / "maps")])
    assert [path.name for path in (tmp_path / "maps").glob("*.png")] == ["00001-a.png"]
    with Image.open(tmp_path / "maps" / "00001-a.png") as drawn:
        assert drawn.width > 2 * drawn.height  # the picture and a map for each of two tags
    answers = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert len(answers[0]["tags"]) == 2
    assert answers[1]["error"]
    long = write_halves(tmp_path / "in" / f"{'é' * 120}.png", "blue", "red")
    predict_files(
        load(model),
        [long],
        "jsonl",
        out=tmp_path / "x.jsonl",
        sinks=[Heatmaps(tmp_path / "maps", overwrite=True)],
        overwrite=True,
    )
    assert [path.name[:7] for path in (tmp_path / "maps").glob("*.png")] == ["00001-é"]


def test_a_model_without_tags_shows_where_its_answer_is(model: Path, tmp_path: Path) -> None:
    model.write_bytes(replace_metadata(model.read_bytes(), CARD))
    picture = write_halves(tmp_path / "a.png", "blue", "red")
    predict_files(load(model), [picture], "jsonl", out=tmp_path / "x.jsonl", sinks=[Heatmaps(tmp_path / "maps")])
    with Image.open(tmp_path / "maps" / "00001-a.png") as drawn:
        assert drawn.width > 1.4 * drawn.height  # the picture, and where blue or red is
    done = belvedere.calibrate(model, write_table(tmp_path), overwrite=True)  # and can be taught
    assert done.after.micro_f1 is not None
    assert done.after.micro_f1 > 0.8


def test_a_model_without_places_draws_none(tiny_model: Path, tmp_path: Path) -> None:
    picture = write_halves(tmp_path / "a.png", "blue", "red")
    with pytest.raises(UsageError, match="leave out --heatmaps"):
        predict_files(
            load(tiny_model), [picture], "jsonl", out=tmp_path / "x.jsonl", sinks=[Heatmaps(tmp_path / "maps")]
        )
    with pytest.raises(UsageError, match="accept rate"):
        load(tiny_model, accept_rate=0.9)
    with pytest.raises(UsageError, match="share"):
        load(tiny_model, accept_rate=1.5)


def test_a_table_names_shares(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "image,label\na.png,sea:0.6|mountain:0.3\nb.png,sea\nc.png,a:b|sea:1.5\nd.png,sea:1|forest:0\n"
    )
    first, second, third, fourth = load_dataset(tmp_path / "t.csv").samples
    assert (first.label, first.also, first.areas) == ("sea", ("mountain",), (0.6, 0.3))
    assert (second.label, second.also, second.areas) == ("sea", (), ())
    assert (third.label, third.also) == ("a:b", ("sea:1.5",))  # no shares: they belong to the names
    assert (fourth.label, fourth.also, fourth.areas) == ("sea", (), (1.0,))
    for bad, words in (("sea:0.6|forest", "every label a share"), ("sea:0.9|forest:0.4", "add up to 1")):
        (tmp_path / "t.csv").write_text(f"image,label\na.png,{bad}\n")
        with pytest.raises(DatasetError, match=words):
            load_dataset(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("image,label\na.png,gear:0\nb.png,gear:1\n")
    assert [sample.label for sample in load_dataset(tmp_path / "t.csv").samples] == ["gear:0", "gear:1"]


def test_several_labels_are_learnt_in_equal_parts(tmp_path: Path) -> None:
    samples = load_dataset(write_table(tmp_path, 9)).samples
    shared = multilabel_targets(samples, CLASS_NAMES, 0.3)
    assert shared is not None
    assert shared.sum(1) == pytest.approx(np.ones(9))
    assert shared[0] == pytest.approx([0.8, 0.1, 0.1])
    assert shared[1] == pytest.approx([0.45, 0.45, 0.1])
    assert multilabel_targets(samples[:1], CLASS_NAMES, 0.3) is None
