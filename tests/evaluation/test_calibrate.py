"""belvedere calibrate, and what tags, heat-maps and areas come to from a file to an answer."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

import belvedere
from belvedere.data.dataset import load_dataset
from belvedere.data.hashing import hash_samples, minhash
from belvedere.data.splits import NUM_FOLDS
from belvedere.errors import CalibrationError, DatasetError, OutputExistsError, UnknownNameError, UsageError
from belvedere.evaluation.evaluate import evaluate
from belvedere.evaluation.report.sinks import Heatmaps
from belvedere.images.inputs import read_inputs
from belvedere.inference.batch import predict_files
from belvedere.inference.model import load_model
from belvedere.inference.model_card import replace_metadata
from belvedere.inference.uncertainty.conformal import prediction_sets
from belvedere.inference.uncertainty.fit import fit_uncertainty
from belvedere.inference.uncertainty.ood import to_percentile
from belvedere.inference.uncertainty.temperature_scaling import log_loss, softmax
from belvedere.runtime.progress import Progress
from belvedere.training.distillation import multilabel_targets
from belvedere.types.model import Preprocess, TagModel, Uncertainty
from conftest import CARD, CLASS_NAMES, COLORS, write_classes
from serve_process import activation_map_model

RULE = TagModel((3.0, 3.0, 3.0), (-8.0, -8.0, -8.0), num_images=100)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The tiny model with evidence of four quarters, and tags."""
    file = tmp_path / "model.onnx"
    file.write_bytes(
        replace_metadata(activation_map_model(), replace(CARD, uncertainty=Uncertainty(1.0, 100, tag_model=RULE)))
    )
    return file


def write_halves(path: Path, left: str, right: str) -> Path:
    pixels = np.full((8, 8, 3), COLORS[left], np.uint8)
    pixels[:, 4:] = COLORS[right]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_table(folder: Path, count: int = 40, areas: bool = False) -> Path:
    """Images of one color or two; those with red have the label blue, too."""
    with (folder / "tagged.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label"])
        for number in range(count):
            left, right = (CLASS_NAMES[number % 3], CLASS_NAMES[number // 3 % 3])
            write_halves(folder / f"{number}.png", left, right)
            labels = [left] if left == right else [left, right]
            fraction = ":0.5" if left != right else ":1"
            rows.writerow([f"{number}.png", "|".join(f"{name}{fraction if areas else ''}" for name in labels)])
    return folder / "tagged.csv"


def test_an_image_of_two_halves_has_two_tags(model: Path, tmp_path: Path) -> None:
    [answer] = load_model(model).predict(write_halves(tmp_path / "x.png", "blue", "red"))
    assert {tag.name for tag in answer.tags} == {"blue", "red"}
    assert answer.tags[0].name == answer.predicted_label
    assert [tag.area_fraction for tag in answer.tags] == pytest.approx([0.5, 0.5], abs=0.02)
    assert answer.tag_probabilities["green"] < 0.01


def test_tags_are_measured_with_their_fractions(model: Path, tmp_path: Path) -> None:
    found = evaluate(load_model(model), load_dataset(write_table(tmp_path, areas=True))).tags
    assert found is not None
    assert found.micro_f1 == 1
    assert found.area_mae is not None
    assert found.area_mae < 0.02


def test_calibrating_writes_a_model_with_other_tags(model: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path)
    before = model.read_bytes()
    done = belvedere.calibrate(model, table, out=tmp_path / "fitted.onnx")
    assert model.read_bytes() == before
    rule = load_model(done.path).card.uncertainty.tag_model
    assert rule is not None
    assert (rule.is_multilabel, rule.num_images) == (True, 40)
    assert done.after.tags is not None
    assert done.after.tags.micro_f1 is not None
    assert done.after.tags.micro_f1 > 0.9
    image = write_halves(tmp_path / "x.png", "green", "green")
    assert load_model(done.path).predict(image)[0].probabilities == load_model(model).predict(image)[0].probabilities


def test_an_open_model_needs_no_file(model: Path, tmp_path: Path) -> None:
    opened, table = load_model(model), write_table(tmp_path)
    model.unlink()
    done = belvedere.calibrate(opened, table, out=tmp_path / "fitted.onnx")
    assert load_model(done.path).class_names == opened.class_names


def test_without_out_the_model_itself_is_replaced(model: Path, tmp_path: Path) -> None:
    table, before = write_table(tmp_path), model.read_bytes()
    with pytest.raises(OutputExistsError):
        belvedere.calibrate(model, table)
    assert model.read_bytes() == before
    assert belvedere.calibrate(model, table, overwrite=True).path == model
    rule = load_model(model).card.uncertainty.tag_model
    assert rule is not None
    assert rule.is_multilabel


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_file_that_changed_since_it_was_loaded_is_refused(is_deleted: bool, model: Path, tmp_path: Path) -> None:
    """A second calibration with the same object would lose the first."""
    table, opened = write_table(tmp_path), load_model(model)
    belvedere.calibrate(opened, table, overwrite=True)
    before = model.read_bytes()
    if is_deleted:
        model.unlink()
    with pytest.raises(UsageError):
        belvedere.calibrate(opened, table, overwrite=True)
    assert is_deleted or model.read_bytes() == before
    assert belvedere.calibrate(opened, table, out=tmp_path / "fitted.onnx").path.is_file()


def test_tags_are_not_written_to_a_graph_at_another_temperature_than_its_card(model: Path, tmp_path: Path) -> None:
    card = replace(CARD, uncertainty=Uncertainty(0.5, 100, tag_model=RULE))
    model.write_bytes(replace_metadata(model.read_bytes(), card))
    before = model.read_bytes()
    with pytest.raises(UsageError):
        belvedere.calibrate(model, write_table(tmp_path), overwrite=True)
    assert model.read_bytes() == before


def test_calibrating_again_begins_where_training_ended(model: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path)
    once = belvedere.calibrate(model, table, out=tmp_path / "once.onnx")
    twice = belvedere.calibrate(once.path, table, out=tmp_path / "twice.onnx")
    assert (twice.before, twice.after) == (once.before, once.after)
    first, second = (load_model(each.path).card.uncertainty for each in (once, twice))
    assert (second.tag_model, second.initial_tag_model) == (first.tag_model, RULE)


def test_the_test_split_of_a_table_stays_aside(model: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path)
    rows = table.read_text().splitlines()
    parts = ["split", *("test" if number < 8 else "train" for number in range(40))]
    table.write_text("".join(f"{row},{part}\n" for row, part in zip(rows, parts, strict=True)))
    done = belvedere.calibrate(model, table, overwrite=True)
    assert (done.num_tag_images, done.num_test_images) == (32, 8)


def test_images_that_go_away_are_left_out_or_not_missed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, said = write_table(tmp_path), list[str]()
    (tmp_path / "3.png").unlink()
    (tmp_path / "4.png").write_bytes(b"no image")

    def read_and_lose(paths: Sequence[Path], preprocess: Preprocess) -> Iterator[object]:
        yield from read_inputs(paths, preprocess)
        (tmp_path / "0.png").unlink()

    class Hears(Progress):
        def log(self, message: str) -> None:
            said.append(message)

    monkeypatch.setattr("belvedere.evaluation.calibrate.read_inputs", read_and_lose)
    assert belvedere.calibrate(model, table, overwrite=True, progress=Hears()).num_tag_images == 38
    assert [Path(line.split(": ")[1]).name for line in said] == ["3.png", "4.png"]


def test_another_file_is_only_replaced_when_asked(model: Path, tmp_path: Path) -> None:
    table, mine = write_table(tmp_path), tmp_path / "mine.txt"
    mine.write_text("mine")
    with pytest.raises(OutputExistsError):
        belvedere.calibrate(model, table, out=mine)
    assert mine.read_text() == "mine"
    belvedere.calibrate(model, table, out=mine, overwrite=True)
    assert load_model(mine).class_names == CLASS_NAMES


@pytest.mark.parametrize("place", ["model.onnx", "tagged.csv", "0.png", "linked.onnx", "link.onnx"])
def test_what_is_read_is_never_replaced_by_another_file(place: str, model: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path)
    (tmp_path / "linked.onnx").hardlink_to(model)
    (tmp_path / "link.onnx").symlink_to(model)
    before = (tmp_path / place).read_bytes()
    with pytest.raises(OutputExistsError) as caught:
        belvedere.calibrate(model, table, out=tmp_path / place, overwrite=True)
    assert (caught.value.path, caught.value.can_overwrite) == (tmp_path / place, False)
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
    with pytest.raises(CalibrationError):
        belvedere.calibrate(model, table, out=out, overwrite=True)
    assert model.read_bytes() == before
    assert not (tmp_path / "fitted.onnx").exists()
    done = belvedere.calibrate(model, table, out=out, force=True, overwrite=True)
    assert load_model(done.path).card.uncertainty.tag_model != RULE


def test_what_else_a_file_says_of_itself_is_kept(model: Path, tmp_path: Path) -> None:
    graph = onnx.load(model)
    onnx.helper.set_model_props(graph, {entry.key: entry.value for entry in graph.metadata_props} | {"export": "{}"})
    onnx.save(graph, model)
    belvedere.calibrate(model, write_table(tmp_path), overwrite=True)
    assert {entry.key: entry.value for entry in onnx.load(model).metadata_props}["export"] == "{}"


def test_too_few_images_and_unknown_labels_are_refused(model: Path, tiny_model: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path)
    with pytest.raises(DatasetError):  # a model without activation maps has no tags, and 13 images have one label
        belvedere.calibrate(tiny_model, table, overwrite=True)
    (tmp_path / "few").mkdir()
    few = write_table(tmp_path / "few", 10)
    with pytest.raises(DatasetError):
        belvedere.calibrate(model, few, overwrite=True)
    table.write_text(table.read_text().replace("blue|red", "blue|rde"))
    with pytest.raises(UnknownNameError):
        belvedere.calibrate(model, table, overwrite=True)
    table.write_text("image,label\n" + "".join(f"{number}.png,blue\n" for number in range(40)))
    with pytest.raises(DatasetError):
        belvedere.calibrate(model, table, overwrite=True)


def scored_model(path: Path, data_minhash: tuple[str, ...] = ()) -> Path:
    """The tiny model with activation maps and an OOD score, which is minus its largest logit."""
    graph = onnx.load_from_string(activation_map_model())
    graph.graph.node.append(onnx.helper.make_node("ReduceMax", ["logits"], ["largest"], axes=[1], keepdims=0))
    graph.graph.node.append(onnx.helper.make_node("Neg", ["largest"], ["ood_score"]))
    graph.graph.output.append(onnx.helper.make_tensor_value_info("ood_score", onnx.TensorProto.FLOAT, ("N",)))
    uncertainty = Uncertainty(1.0, 50, 0.5, ood_score_quantiles=(-5.0, 0.0), tag_model=RULE)
    card = replace(CARD, uncertainty=uncertainty, provenance=replace(CARD.provenance, data_minhash=data_minhash))
    path.write_bytes(replace_metadata(graph.SerializeToString(), card))
    return path


def write_noisy(folder: Path, count: int = 150, seed: int = 0) -> Path:
    """Images of random colors, labeled by chance as the tiny model predicts at temperature 2."""
    chance = np.random.default_rng(seed)
    for number in range(count):
        color = chance.integers(0, 256, 3)
        logits = color[::-1] / 50 / 2
        label = CLASS_NAMES[chance.choice(3, p=np.exp(logits) / np.exp(logits).sum())]
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.broadcast_to(color.astype(np.uint8), (8, 8, 3)).copy()).save(
            folder / label / f"{number}.png"
        )
    return folder


def outputs_of(model: Path, data: Path) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Logits, labels and OOD scores of the images of a folder."""
    opened, samples = load_model(model), load_dataset(data).samples
    pixels = np.stack([np.asarray(Image.open(sample.path)) for sample in samples])
    outputs = opened.forward_all(pixels)
    assert outputs.ood_score is not None
    return outputs.logits, np.array([CLASS_NAMES.index(sample.label) for sample in samples]), outputs.ood_score


def test_single_labels_fit_everything_but_the_tags(tmp_path: Path) -> None:
    model, data = scored_model(tmp_path / "model.onnx"), write_noisy(tmp_path / "data")
    logits, labels, scores = outputs_of(model, data)
    done = belvedere.calibrate(model, data, out=tmp_path / "fitted.onnx")
    expected = fit_uncertainty(logits, labels, scores)
    assert done.uncertainty == replace(expected, tag_model=RULE)
    assert 1.5 < expected.temperature < 2.7
    assert expected.conformal_threshold is not None
    assert len(expected.ood_score_quantiles) == 201
    assert (done.num_images, done.num_tag_images, done.before.tags, done.after.tags) == (150, 0, None, None)
    fitted = load_model(done.path)
    assert fitted.card.uncertainty == done.uncertainty
    after_logits, _, after_scores = outputs_of(done.path, data)
    assert (after_logits == logits).all()
    assert (after_scores == scores).all()
    pixels = np.full((1, 8, 8, 3), (10, 200, 90), np.uint8)
    outputs = fitted.forward(pixels)
    assert outputs.probabilities == pytest.approx(softmax(outputs.logits / expected.temperature), abs=1e-6)


def test_figures_after_are_cross_validated(tmp_path: Path) -> None:
    model, data = scored_model(tmp_path / "model.onnx"), write_noisy(tmp_path / "data")
    logits, labels, scores = outputs_of(model, data)
    done = belvedere.calibrate(model, data, out=tmp_path / "fitted.onnx")
    _, files = np.unique(hash_samples(load_dataset(data).samples, Progress()).hashes, return_inverse=True)
    folds = np.random.default_rng(0).permutation(files.max() + 1)[files] % NUM_FOLDS
    probabilities, covered, accepted = np.empty((150, 3)), np.empty(150, bool), np.empty(150, bool)
    for fold in range(5):
        held = folds == fold
        fitted = fit_uncertainty(logits[~held], labels[~held], scores[~held])
        assert fitted.conformal_threshold is not None
        probabilities[held] = softmax(logits[held].astype(np.float64) / fitted.temperature)
        sets = prediction_sets(probabilities[held], fitted.conformal_threshold)
        covered[held] = sets[np.arange(held.sum()), labels[held]]
        accepted[held] = to_percentile(scores[held], fitted.ood_score_quantiles) <= 0.95
    assert done.after.log_loss == pytest.approx(-np.log(probabilities[np.arange(150), labels]).mean(), abs=1e-9)
    assert done.after.coverage == covered.mean()
    assert done.after.acceptance == accepted.mean()
    assert done.before.log_loss == pytest.approx(log_loss(logits.astype(np.float64), labels), abs=1e-9)
    assert (done.before.log_loss or 0) > (done.after.log_loss or 9)
    assert (done.before.ece or 0) > (done.after.ece or 9)


def test_calibrating_twice_is_the_same(tmp_path: Path) -> None:
    model, data = scored_model(tmp_path / "model.onnx"), write_noisy(tmp_path / "data")
    once = belvedere.calibrate(model, data, out=tmp_path / "once.onnx")
    twice = belvedere.calibrate(load_model(once.path), load_dataset(data), out=tmp_path / "twice.onnx")
    assert twice.uncertainty == once.uncertainty
    assert twice.path.read_bytes() == once.path.read_bytes()
    assert (twice.before, twice.after) == (once.after, once.after)


@pytest.mark.parametrize("seed", range(5))
def test_calibrating_again_on_most_of_the_images_is_not_refused(seed: int, tmp_path: Path) -> None:
    """The model was fitted to these images, so its metrics on them are better than the cross-validated ones."""
    model, data = scored_model(tmp_path / "model.onnx"), write_noisy(tmp_path / "data", 110, seed)
    once = belvedere.calibrate(model, data, out=tmp_path / "once.onnx")
    for image in sorted(data.glob("*/*.png"))[:5]:
        image.unlink()
    twice = belvedere.calibrate(once.path, data, out=tmp_path / "twice.onnx")
    assert twice.num_images == 105
    assert (twice.before.log_loss or 0) < (twice.after.log_loss or 0) * 1.1


def test_tables_of_several_labels_fit_both(tmp_path: Path) -> None:
    model, table = scored_model(tmp_path / "model.onnx"), write_table(tmp_path, 360)
    done = belvedere.calibrate(model, table, force=True, overwrite=True)
    assert (done.num_images, done.num_tag_images) == (120, 360)
    assert done.uncertainty.initial_tag_model == RULE
    assert done.uncertainty.num_calibration_images == 120


@pytest.mark.parametrize("force", [False, True])
def test_probabilities_that_get_worse_are_refused(force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = scored_model(tmp_path / "model.onnx"), write_noisy(tmp_path / "data")
    monkeypatch.setattr("belvedere.evaluation.calibrate.fit_uncertainty", lambda *_: Uncertainty(0.2, 150, 0.01))
    before = model.read_bytes()
    if force:
        assert belvedere.calibrate(model, data, overwrite=True, force=True).uncertainty.temperature == 0.2
    else:
        with pytest.raises(CalibrationError) as caught:
            belvedere.calibrate(model, data, overwrite=True)
        assert all(name in str(caught.value) for name in ("log loss", "coverage"))
        assert model.read_bytes() == before


def test_training_images_are_noticed_and_only_the_validation_split_is_used(tmp_path: Path) -> None:
    data = write_noisy(tmp_path / "data" / "val")
    hashes = hash_samples(load_dataset(data).samples, Progress()).hashes
    for split in ("train", "test"):
        write_classes(tmp_path / "data" / split, 2)
    model = scored_model(tmp_path / "model.onnx", data_minhash=minhash(hashes[:50]))
    done = belvedere.calibrate(model, tmp_path / "data", out=tmp_path / "fitted.onnx")
    assert (done.num_images, done.num_test_images) == (150, 6)
    assert done.training_overlap == pytest.approx(50 / 150)


def test_calibrating_needs_no_torch(tmp_path: Path) -> None:
    model, data = scored_model(tmp_path / "model.onnx"), write_noisy(tmp_path / "data")
    code = (
        "import sys\nsys.modules.update(dict.fromkeys(['torch', 'timm', 'safetensors']))\n"
        "import belvedere\nprint(belvedere.calibrate(sys.argv[1], sys.argv[2], overwrite=True).num_images)"
    )
    done = subprocess.run([sys.executable, "-c", code, model, data], capture_output=True, text=True, check=True)
    assert done.stdout == "150\n"


def test_heatmaps_are_one_file_an_image(model: Path, tmp_path: Path) -> None:
    images = [write_halves(tmp_path / "in" / "a.png", "blue", "red"), tmp_path / "in" / "broken.png"]
    images[1].write_bytes(b"no image")
    predict_files(load_model(model), images, "jsonl", out=tmp_path / "x.jsonl", sinks=[Heatmaps(tmp_path / "maps")])
    assert [path.name for path in (tmp_path / "maps").glob("*.png")] == ["00001-a.png"]
    with Image.open(tmp_path / "maps" / "00001-a.png") as drawn:
        assert drawn.width > 2 * drawn.height  # the image and a map for each of two tags
    answers = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert len(answers[0]["tags"]) == 2
    assert answers[1]["error"]
    long = write_halves(tmp_path / "in" / f"{'é' * 120}.png", "blue", "red")
    predict_files(
        load_model(model),
        [long],
        "jsonl",
        out=tmp_path / "x.jsonl",
        sinks=[Heatmaps(tmp_path / "maps", overwrite=True)],
        overwrite=True,
    )
    assert [path.name[:7] for path in (tmp_path / "maps").glob("*.png")] == ["00001-é"]


def test_heatmaps_are_no_images_of_their_own_run(model: Path, tmp_path: Path) -> None:
    image = write_halves(tmp_path / "in" / "a.png", "blue", "red")
    with pytest.raises(UsageError, match="heat"):
        predict_files(load_model(model), [image.parent], "csv", sinks=[Heatmaps(image.parent / "new" / "heat")])
    assert list(image.parent.iterdir()) == [image]


def test_a_model_without_tags_shows_where_its_answer_is(model: Path, tmp_path: Path) -> None:
    model.write_bytes(replace_metadata(model.read_bytes(), CARD))
    image = write_halves(tmp_path / "a.png", "blue", "red")
    predict_files(load_model(model), [image], "jsonl", out=tmp_path / "x.jsonl", sinks=[Heatmaps(tmp_path / "maps")])
    with Image.open(tmp_path / "maps" / "00001-a.png") as drawn:
        assert drawn.width > 1.4 * drawn.height  # the image, and where blue or red is
    done = belvedere.calibrate(model, write_table(tmp_path), overwrite=True)  # and can be taught
    assert done.after.tags is not None
    assert done.after.tags.micro_f1 is not None
    assert done.after.tags.micro_f1 > 0.8


def test_a_model_without_places_draws_none(tiny_model: Path, tmp_path: Path) -> None:
    image = write_halves(tmp_path / "a.png", "blue", "red")
    with pytest.raises(UsageError):
        predict_files(
            load_model(tiny_model), [image], "jsonl", out=tmp_path / "x.jsonl", sinks=[Heatmaps(tmp_path / "maps")]
        )
    with pytest.raises(UsageError):
        load_model(tiny_model, accept_rate=0.9)
    with pytest.raises(UsageError):
        load_model(tiny_model, accept_rate=1.5)


def test_a_table_names_fractions(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "t.csv").write_text(
        "image,label\na.png,sea:0.6|mountain:0.3\nb.png,sea\nc.png,a:b|sea:1.5\nd.png,sea:1|forest:0\n"
    )
    first, second, third, fourth = load_dataset(tmp_path / "t.csv").samples
    assert (first.label, first.extra_labels, first.area_fractions) == ("sea", ("mountain",), (0.6, 0.3))
    assert (second.label, second.extra_labels, second.area_fractions) == ("sea", (), ())
    assert (third.label, third.extra_labels) == ("a:b", ("sea:1.5",))  # no fractions: they belong to the names
    assert (fourth.label, fourth.extra_labels, fourth.area_fractions) == ("sea", (), (1.0,))
    for bad in ("sea:0.6|forest", "sea:0.9|forest:0.4"):
        (tmp_path / "t.csv").write_text(f"image,label\na.png,{bad}\n")
        with pytest.raises(DatasetError):
            load_dataset(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("image,label\na.png,gear:0\nb.png,gear:1\n")
    assert [sample.label for sample in load_dataset(tmp_path / "t.csv").samples] == ["gear:0", "gear:1"]


def test_several_labels_are_trained_in_equal_parts(tmp_path: Path) -> None:
    samples = load_dataset(write_table(tmp_path, 9)).samples
    shared = multilabel_targets(samples, CLASS_NAMES, 0.3)
    assert shared is not None
    assert shared.sum(1) == pytest.approx(np.ones(9))
    assert shared[0] == pytest.approx([0.8, 0.1, 0.1])
    assert shared[1] == pytest.approx([0.45, 0.45, 0.1])
    assert multilabel_targets(samples[:1], CLASS_NAMES, 0.3) is None
