"""Draws the figures of docs/concepts, and prints the numbers of these pages.

python docs/figures.py FOLDER                  all figures, a few minutes
python docs/figures.py FOLDER leaks tags       some of them

FOLDER holds synthetic scenes and the model that is trained on them; they are made if they are not there. All draws
have fixed seeds.
"""

import argparse
import csv
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageFilter

import belvedere
from belvedere.data.dataset import load_dataset
from belvedere.data.hashing import hash_samples
from belvedere.data.near_duplicates.shifts import find_shifted_pairs
from belvedere.evaluation.metrics import prediction_set_metrics, reliability
from belvedere.evaluation.report.heatmap_figures import compute_cam
from belvedere.evaluation.report.pages import COLORS
from belvedere.evaluation.report.plots import style_context
from belvedere.images.decode import RGB, read_image
from belvedere.images.heatmap import overlay
from belvedere.inference.model import Model
from belvedere.inference.uncertainty.conformal import COVERAGE, aps_scores, prediction_sets
from belvedere.inference.uncertainty.fit import fit_uncertainty
from belvedere.inference.uncertainty.temperature_scaling import softmax
from belvedere.runtime.progress import Progress
from belvedere.training.linear_probe import fit_probe
from belvedere.types.evaluation import Reliability
from figure_images import (
    Demo,
    Labels,
    cut,
    draw_balls,
    draw_bursts,
    draw_chart,
    draw_new_scenes,
    draw_page,
    hold_out,
    raw_outputs,
    upside_down,
)
from figure_style import divide, draw_bars, draw_strips, new_figure, percent_axis, save, show

FONT_SIZE = 10.5
PER_CLASS = (5, 20, 80)  # labeled images of each class; the demo trains on the last
PROBE_DRAWS = 5
STEPS = 60  # of a training from scratch with fewer images than the demo has, about as many as the demo's
LEAK_DRAWS = 20
NEW_PER_CLASS = 100  # scenes to calibrate on
BLUR = 2  # standard deviation, pixels of 150
OUTSIDERS = 40  # images of each kind that show none of the classes

Embeddings = NDArray[np.float32]


# -- Calibration


def draw_calibration(demo: Demo) -> None:
    """Reliability before and after temperature scaling."""
    evaluation = belvedere.evaluate(demo.model, demo.images, progress=False)
    before = evaluation.uncalibrated
    assert before is not None
    after = Reliability(evaluation.log_loss, evaluation.ece, evaluation.reliability_bins)
    print(f"temperature {demo.model.card.uncertainty.temperature:.2f}, accuracy {evaluation.accuracy:.1%}")
    for title, each in (("before", before), ("after", after)):
        confidence = sum(row.count * row.confidence for row in each.bins) / evaluation.num_images
        print(f"{title}: log loss {each.log_loss:.3f}, error {each.ece:.1%}, mean confidence {confidence:.1%}")
    figure = new_figure(4.9)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=COLORS["muted"], lw=1, dashes=(4, 3), label="perfectly calibrated")
    for each, label, color in ((before, "before", COLORS["contrast"]), (after, "after", COLORS["accent"])):
        rows = [row for row in each.bins if row.count]
        x, y = [row.confidence for row in rows], [row.accuracy for row in rows]
        axes.scatter(x, y, [5 * row.count for row in rows], color=color, alpha=0.65, lw=0, clip_on=False, zorder=3)
        axes.scatter([], [], 40, color=color, alpha=0.65, lw=0, label=f"{label}: calibration error {each.ece:.1%}")
    axes.set(xlabel="Confidence", ylabel="Accuracy")
    percent_axis(axes, "x")
    percent_axis(axes, "y", 1.04)
    axes.set_xlim(0.2, 1)
    axes.set_title(f"{evaluation.num_images} test images")
    figure.legend(loc="outside lower left")
    save(figure, "calibration")


# -- Prediction sets


def draw_prediction_sets(demo: Demo) -> None:
    """A prediction set with its threshold, and the coverage by class, after `calibrate` on new scenes."""
    files, labels = demo.test_files()
    names = demo.model.class_names
    describe_sets("as trained", demo.model, files, labels)
    describe_fit_without_wrong_labels(demo)
    with tempfile.TemporaryDirectory() as name:
        draw_new_scenes(Path(name) / "new", names, NEW_PER_CLASS)
        file = Path(name) / "model.onnx"
        belvedere.calibrate(demo.model, Path(name) / "new", out=file, progress=False)
        model = belvedere.load_model(file)
    covered, sizes = describe_sets("calibrated", model, files, labels)
    blurred = [np.asarray(Image.open(each).convert("RGB").filter(ImageFilter.GaussianBlur(BLUR))) for each in files]
    describe_sets("calibrated, blurred images", model, blurred, labels)
    evaluation = belvedere.evaluate(model, demo.images, progress=False)
    print(f"calibrated: temperature {model.card.uncertainty.temperature:.2f}, calibration error {evaluation.ece:.1%}")
    # The smallest set that has the label, although the most probable class is wrong.
    predictions, threshold = model.predict(files), model.card.uncertainty.conformal_threshold
    assert threshold is not None
    row = min(
        (row for row in np.flatnonzero(covered) if predictions[row].predicted_label != names[labels[row]]),
        key=lambda row: (sizes[row], row),
    )
    print(f"example {files[row].relative_to(demo.images)}: {predictions[row].prediction_set}")
    figure = new_figure(5.4)
    parts = figure.subplots(2, 1, height_ratios=[1.15, 1])
    draw_set(parts[0], np.array(predictions[row].probability_values), names, threshold)
    parts[0].set_title(f"One image, labeled “{names[labels[row]]}”")
    show(parts[0].inset_axes((0.63, 0.02, 0.37, 0.56)), read_image(files[row]), "")
    by_class = [float(covered[labels == k].mean()) for k in range(len(names))]
    print("coverage by class: " + ", ".join(f"{name} {each:.1%}" for name, each in zip(names, by_class, strict=True)))
    draw_bars(parts[1], names, by_class, [COLORS["accent"]] * len(names))
    parts[1].axvline(COVERAGE, color=COLORS["contrast"], lw=1.6, dashes=(4, 3))
    parts[1].set_title(f"Coverage by class; the line is {COVERAGE:.0%}")
    save(figure, "prediction-sets")


def describe_fit_without_wrong_labels(demo: Demo) -> None:
    """Print what the held-out images fit without those with a wrong label, and the effect on the test images."""
    held_out, given, is_wrong = demo.held_out_files()
    fitted = fit_uncertainty(raw_outputs(demo.model, held_out).logits[~is_wrong], given[~is_wrong])
    files, labels = demo.test_files()
    probabilities = softmax(raw_outputs(demo.model, files).logits.astype(np.float64) / fitted.temperature)
    assert fitted.conformal_threshold is not None
    in_set = prediction_sets(probabilities, fitted.conformal_threshold)
    sets, error = prediction_set_metrics(in_set, labels, COVERAGE), reliability(labels, probabilities).ece
    print(
        f"without {is_wrong.sum()} wrong labels: {(~is_wrong).sum()} images, temperature {fitted.temperature:.2f}, "
        f"calibration error {error:.1%}, threshold {fitted.conformal_threshold:.1%}, coverage {sets.coverage:.1%}, "
        f"mean size {sets.mean_size:.2f}"
    )


def describe_sets(
    title: str, model: Model, images: object, labels: Labels
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Return whether each prediction set has the label, (N,), and the sizes of the sets, (N,)."""
    predictions, uncertainty = model.predict(images), model.card.uncertainty
    covered = [model.class_names[label] in each.prediction_set for label, each in zip(labels, predictions, strict=True)]
    sizes = np.array([len(each.prediction_set) for each in predictions])
    correct = np.mean(
        [each.predicted_label == model.class_names[k] for each, k in zip(predictions, labels, strict=True)]
    )
    print(
        f"{title}: {uncertainty.num_calibration_images} images, threshold {uncertainty.conformal_threshold:.1%}, "
        f"accuracy {correct:.1%}, coverage {np.mean(covered):.1%}, mean size {sizes.mean():.2f}, "
        f"{np.bincount(sizes)[1:].tolist()} sets of 1, 2, ... classes"
    )
    return np.array(covered), sizes


def draw_set(axes: Axes, probabilities: NDArray[np.float64], names: Sequence[str], threshold: float) -> None:
    """Draw the probabilities; those of the classes in the set are colored."""
    order = np.argsort(-probabilities, kind="stable")
    scores = aps_scores(probabilities[None])[0]
    colors = [COLORS["accent"] if scores[k] <= threshold else COLORS["line"] for k in order]
    draw_bars(axes, [names[k] for k in order], probabilities[order].tolist(), colors)
    axes.set_xlabel(f"Blue: in the set, at most {threshold:.1%} is above it")


# -- None of these


def ood_scores(model: Model, images: Sequence[Image.Image | Path]) -> NDArray[np.float64]:
    """Return the scores of images, (N,)."""
    scores = raw_outputs(model, images).ood_score
    assert scores is not None
    return scores.astype(np.float64)


def draw_none_of_these(demo: Demo) -> None:
    """Scores of test images and of images of none of the classes, with the threshold."""
    files, _ = demo.test_files()
    random = np.random.default_rng(0)
    makers = {"pages": draw_page, "charts": draw_chart, "balls": draw_balls}
    kinds = {kind: [make(random) for _ in range(OUTSIDERS)] for kind, make in makers.items()}
    uncertainty = demo.model.card.uncertainty
    quantiles = uncertainty.ood_score_quantiles
    threshold = float(np.interp(uncertainty.ood_acceptance, np.linspace(0, 1, len(quantiles)), quantiles))
    inside = ood_scores(demo.model, files)
    groups = {kind: ood_scores(demo.model, images) for kind, images in kinds.items()}
    groups["upside down"] = ood_scores(demo.model, [upside_down(file) for file in files])
    drawn = demo.model.predict([np.asarray(each) for images in kinds.values() for each in images])
    print(f"threshold {threshold:.2f}, test images accepted {(inside <= threshold).mean():.1%} of {len(inside)}")
    for kind, scores in groups.items():
        print(f"{kind}: accepted {(scores <= threshold).mean():.1%} of {len(scores)}, median {np.median(scores):.1f}")
    sure = np.array([each.confidence for each in drawn], float)
    print(f"highest probability of the drawn images: mean {sure.mean():.1%}, over 90% for {(sure > 0.9).mean():.1%}")
    figure = new_figure(4.7)
    top, bottom = divide(figure, [1, 2.5])
    thumbnails = {"test image": read_image(files[0]), **{kind: np.asarray(each[0]) for kind, each in kinds.items()}}
    for axes, (title, pixels) in zip(top.subplots(1, len(thumbnails)), thumbnails.items(), strict=True):
        show(axes, pixels, title)
    draw_strips(bottom.subplots(), {"test images": inside, **groups}, threshold)
    save(figure, "none-of-these")


# -- Tags


def draw_tags(demo: Demo) -> None:
    """The fjord of the demo, and the heatmap of each tag."""
    file = demo.images / "fjord.jpg"
    [prediction] = demo.model.predict(file)
    pixels, maps = compute_cam(demo.model, read_image(file), 300)
    areas = demo.truth["areas"]["fjord.jpg"]
    figure = new_figure(1.85)
    parts = figure.subplots(1, 1 + len(prediction.tags))
    show(parts[0], pixels, "the image")
    for axes, tag in zip(parts[1:], prediction.tags, strict=True):
        show(axes, overlay(pixels, maps[demo.model.class_names.index(tag.name)]), f"{tag.name} {tag.area_fraction:.0%}")
        print(f"{tag.name}: area {tag.area_fraction:.1%}, confidence {tag.confidence:.1%}")
    print("drawn: " + ", ".join(f"{name} {area:.1%}" for name, area in areas.items()))
    save(figure, "tags")


# -- Linear probe


def probe_correct(
    train: Embeddings, labels: Labels, groups: Sequence[str], test: Embeddings, test_labels: Labels, seed: int
) -> NDArray[np.bool_]:
    """Fit a probe, and return which test images it predicts correctly, (N,)."""
    probe = fit_probe(train, labels, groups, int(labels.max()) + 1, seed)
    return np.asarray((test @ probe.weight.T + probe.bias).argmax(1) == test_labels)


def train_from_scratch(demo: Demo, chosen: Sequence[Path]) -> float:
    """Train the recipe `quick` on some images, and return its accuracy on all test images."""
    files, labels = demo.test_files()
    with tempfile.TemporaryDirectory() as name:
        table = Path(name) / "few.csv"
        with table.open("w", newline="", encoding="utf-8") as opened:
            rows = csv.writer(opened)
            rows.writerow(["image", "label", "split"])
            rows.writerows([file.resolve(), file.parent.name, "train"] for file in chosen)
            names = [demo.model.class_names[label] for label in labels]
            rows.writerows([file.resolve(), label, "test"] for file, label in zip(files, names, strict=True))
        run = belvedere.train(table, out=Path(name) / "run", recipe="quick", epochs=STEPS, progress=False)
        return run.evaluation.accuracy


def draw_linear_probe(demo: Demo) -> None:
    """Accuracy against the number of labeled images, of a probe and of training from scratch."""
    backbone, names = belvedere.load_model(), demo.model.class_names
    test, test_labels = demo.test_files()
    test_values = backbone.embed(test)
    pool = [demo.files("train", name) for name in names]
    values = [backbone.embed(files) for files in pool]
    predicted = [names.index(str(each.predicted_label)) for each in demo.model.predict(test)]
    demo_accuracy = float((np.array(predicted) == test_labels).mean())
    probes, scratch = [], []
    for each in PER_CLASS:
        labels = np.repeat(np.arange(len(names)), each)
        found = []
        for seed in range(PROBE_DRAWS):
            random = np.random.default_rng(seed)
            rows = [random.permutation(len(files))[:each] for files in pool]
            train = np.concatenate([part[index] for part, index in zip(values, rows, strict=True)])
            groups = [str(number) for number in range(len(train))]
            found.append(float(probe_correct(train, labels, groups, test_values, test_labels, seed).mean()))
            if not seed:
                chosen = [files[index] for files, part in zip(pool, rows, strict=True) for index in part]
        probes.append(float(np.mean(found)))
        scratch.append(train_from_scratch(demo, chosen) if each < PER_CLASS[-1] else demo_accuracy)
        spread = " ".join(f"{value:.1%}" for value in found)
        print(f"{each} of each class: probe {probes[-1]:.1%} ({spread}), from scratch {scratch[-1]:.1%}", flush=True)
    figure = new_figure(3.6)
    axes = figure.subplots()
    for label, heights, color, marker in (
        ("linear probe", probes, COLORS["accent"], "o"),
        ("from scratch", scratch, COLORS["contrast"], "s"),
    ):
        axes.plot(PER_CLASS, heights, color=color, marker=marker, lw=1.8, label=label)
    axes.set_xscale("log")
    axes.set_xticks(PER_CLASS, [str(each) for each in PER_CLASS])
    axes.minorticks_off()
    axes.set(xlabel="Labeled images of each class", ylabel="Test accuracy")
    percent_axis(axes, "y", 1.04)
    axes.legend(loc="lower right")
    save(figure, "linear-probe")


# -- Leaks


def count_found(shots: Sequence[Image.Image], is_test: NDArray[np.bool_]) -> int:
    """Return how many test shots the check before a training finds to have a near duplicate in training."""
    with tempfile.TemporaryDirectory() as name:
        for row, shot in enumerate(shots):
            folder = Path(name) / ("test" if is_test[row] else "train") / "scene"
            folder.mkdir(parents=True, exist_ok=True)
            shot.save(folder / f"{row:04d}.jpg", quality=90)
        contents = hash_samples(load_dataset(name).samples, Progress())
        splits = [sample.split for sample in contents.samples]
        pairs = find_shifted_pairs(contents, Progress(), splits)
    return len({int(row) for row in pairs.ravel() if splits[int(row)] == "test"})


def draw_leaks(demo: Demo) -> None:
    """Two shots of one scene, and the accuracy on test images with and without such a leak."""
    backbone = belvedere.load_model()
    others, other_labels = demo.test_files()
    random = np.random.default_rng(LEAK_DRAWS)
    other_values = backbone.embed([np.asarray(cut(Image.open(file).convert("RGB"), random)) for file in others])
    rows = []
    for seed in range(LEAK_DRAWS):
        shots, labels, scenes = draw_bursts(demo, seed)
        values = backbone.embed([np.asarray(shot) for shot in shots])
        single = np.arange(len(shots))
        for names in (single, scenes):
            is_test = hold_out(names, seed)
            train, groups = values[~is_test], [str(name) for name in names[~is_test]]
            test, test_labels = np.concatenate([values[is_test], other_values]), np.r_[labels[is_test], other_labels]
            correct = probe_correct(train, labels[~is_test], groups, test, test_labels, seed)
            rows.append((correct[: is_test.sum()].mean(), correct[is_test.sum() :].mean()))
        if not seed:
            is_test = hold_out(single, seed)
            first = int(np.flatnonzero(is_test)[0])
            second = int(np.flatnonzero(~is_test & (scenes == scenes[first]))[0])
            print(f"leaks found in draw 0: {count_found(shots, is_test)} of {is_test.sum()} test shots")
            pair = np.asarray(shots[second]), np.asarray(shots[first])
        print(f"draw {seed}: " + " ".join(f"{value:.1%}" for row in rows[-2:] for value in row), flush=True)
    accuracy = np.array(rows).reshape(LEAK_DRAWS, 2, 2)  # draws; single shots, scenes; test shots, other scenes
    for name, values in (("single shots held out", accuracy[:, 0]), ("scenes held out", accuracy[:, 1])):
        error = (values[:, 0] - values[:, 1]).std(ddof=1) / LEAK_DRAWS**0.5
        print(f"{name}: reported {values[:, 0].mean():.1%}, other scenes {values[:, 1].mean():.1%}, ± {error:.1%}")
    save(leak_figure(pair, accuracy.mean(0)), "leaks")


def leak_figure(pair: tuple[RGB, RGB], accuracy: NDArray[np.float64]) -> Figure:
    """Draw two shots, and the accuracy reported and on other scenes, (2, 2), with and without the leak."""
    figure = new_figure(4.7)
    top, bottom = divide(figure, [1, 1.75])
    titles = ("in the training split", "in the test split")
    for axes, pixels, title in zip(top.subplots(1, 2), pair, titles, strict=True):
        show(axes, pixels, title)
    titles, colors = ("Single shots held out: a leak", "Whole scenes held out"), (COLORS["contrast"], COLORS["accent"])
    parts = bottom.subplots(2, 1, sharex=True)
    for axes, values, title, color in zip(parts, accuracy, titles, colors, strict=True):
        draw_bars(axes, ["test images", "other scenes"], values.tolist(), [color] * 2)
        axes.set_title(title)
    parts[1].set_xlabel("Accuracy")
    return figure


FIGURES: Mapping[str, Callable[[Demo], None]] = {
    "calibration": draw_calibration,
    "prediction-sets": draw_prediction_sets,
    "none-of-these": draw_none_of_these,
    "tags": draw_tags,
    "leaks": draw_leaks,
    "linear-probe": draw_linear_probe,
}


def main() -> None:
    """Draw the figures, each under the line with its name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("figures", nargs="*", default=list(FIGURES), metavar="FIGURE", help=", ".join(FIGURES))
    options = parser.parse_args()
    if unknown := set(options.figures) - set(FIGURES):
        parser.error(f"no such figure: {', '.join(sorted(unknown))}; choose from {', '.join(FIGURES)}")
    demo = Demo(options.demo)
    for name in options.figures:
        print(f"\n{name}", flush=True)
        with style_context(), rc_context({"font.size": FONT_SIZE}):
            FIGURES[name](demo)


if __name__ == "__main__":
    main()
