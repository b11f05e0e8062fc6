"""Coverage of the intervals of `belvedere assess`, and its standard error beside that of random images.

python benchmarks/assess.py RUN [--against RUN] [--answers TABLE.csv] [--draws 2000] [--budget 100]

RUN is a folder of `train` or `evaluate --out`, whose labels count as the true ones. For each draw, another sample is
drawn and answered. Labels: "given" has 7% of the labels changed to a random class, and the sample is drawn with them;
"none" draws without labels. Person: a fraction of the answers, fixed for each image, is a random other class. What an
interval should cover is then the agreement with this person on all images; for a person without errors, it is the true
value. The standard error at random is that of as many random images, without replacement: sqrt(v (1 - v) / n (1 -
n / N)).

With --answers, the answers of a table are drawn from instead (columns image and main, by the name of the file), and the
labels of RUN are the given ones.
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.evaluation.assessment.assess import Estimates, Estimator
from belvedere.evaluation.assessment.outcomes import NONE
from belvedere.evaluation.assessment.population import ModelPredictions, Population, join_class_names, make_population
from belvedere.evaluation.assessment.sampling import draw_order
from belvedere.evaluation.run_folder import read_predictions
from belvedere.types.assessment import Estimate
from belvedere.types.data import ModelId

WRONG_LABELS, WRONG_ANSWERS = 0.07, 0.1
TARGET_COVERAGE = 0.95
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Data:
    """Predictions of one or two models, and the true class of each image."""

    class_names: tuple[str, ...]
    models: tuple[ModelPredictions, ...]
    true: Labels  # (N,)
    images: tuple[str, ...]


def read_data(runs: list[Path], chosen: Container[str] | None = None) -> Data:
    """Read the images that all runs predicted, or those with chosen file names."""
    stored = [read_predictions(run) for run in runs]
    names = join_class_names([each.class_names for each in stored], None)
    readable = [{each.image: each for each in run.predictions if each.error is None} for run in stored]
    images = tuple(image for image in readable[0] if all(image in run for run in readable))
    images = tuple(image for image in images if chosen is None or Path(image).name in chosen)
    models = []
    for run, predictions in zip(runs, readable, strict=True):
        values = np.array([[predictions[image].probabilities.get(name, 0.0) for name in names] for image in images])
        confidence, predicted = values.max(1), values.argmax(1)
        models.append(
            ModelPredictions(ModelId(str(run), ""), values, predicted, confidence, top_set(values), None, None)
        )
    true = np.array([names.index(str(readable[0][image].label)) for image in images])
    return Data(names, tuple(models), true, images)


def top_set(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the most probable classes, (N, C), that have a probability of 95% together."""
    order = np.argsort(-values, axis=1)
    sums = np.cumsum(np.take_along_axis(values, order, 1), 1)
    inside = np.zeros(values.shape, bool)
    np.put_along_axis(inside, order, np.pad(sums[:, :-1], ((0, 0), (1, 0))) < TARGET_COVERAGE, 1)
    return inside


def with_errors(labels: Labels, fraction: float, num_classes: int, seed: int) -> Labels:
    """Replace a fraction of the labels by a random other class."""
    random = np.random.default_rng(seed)
    is_wrong = random.random(len(labels)) < fraction
    return np.where(is_wrong, (labels + random.integers(1, num_classes, len(labels))) % num_classes, labels)


def list_estimates(estimates: Estimates) -> Iterator[tuple[str, str, Estimate]]:
    """Yield kind, class and value of each estimate."""
    for number, model in enumerate(estimates.models):
        suffix = "" if number == 0 else " (other)"
        yield f"accuracy{suffix}", "", model.accuracy
        if model.prediction_set_coverage is not None:
            yield f"prediction set{suffix}", "", model.prediction_set_coverage
        for each in model.per_class:
            yield f"recall{suffix}", each.name, each.recall
            yield f"precision{suffix}", each.name, each.precision
            if each.label_errors is not None:
                yield f"wrong labels of a class{suffix}", each.name, each.label_errors
    if estimates.label_errors is not None:
        yield "wrong labels", "", estimates.label_errors
    if estimates.accuracy_change is not None:
        yield "accuracy change", "", estimates.accuracy_change


def simulate(population: Population, answers: Labels, budget: int, draws: int, title: str) -> None:
    """Draw samples, and print coverage and standard error of each kind of estimate."""
    everything = Estimator(replace(population, order=np.arange(len(answers))), answers.tolist()).estimate()
    truth = {(kind, name): float(each.value or 0.0) for kind, name, each in list_estimates(everything)}
    totals = {(kind, name): each.num_images for kind, name, each in list_estimates(everything)}
    covered, values, sizes = defaultdict(list), defaultdict(list), defaultdict(list)
    random = np.random.default_rng(0)
    for _ in range(draws):
        order = draw_order(random.random(len(answers)), population.draws)
        drawn = replace(population, order=order)
        for kind, name, each in list_estimates(Estimator(drawn, answers[order[:budget]].tolist()).estimate()):
            if each.value is None:
                continue
            covered[kind, name].append(each.ci_low - 1e-12 <= truth[kind, name] <= each.ci_high + 1e-12)
            values[kind, name].append(each.value)
            sizes[kind, name].append(each.ci_high - each.ci_low)
    print(f"\n{title}: {len(answers):,} images, {budget} answers, {draws:,} draws")
    print(f"{'':26}{'true':>7}{'bias':>8}{'std. err.':>10}{'/ random':>9}{'coverage':>10}{'lowest':>8}{'width':>7}")
    for kind in dict.fromkeys(kind for kind, _ in covered):
        keys = [key for key in covered if key[0] == kind]
        errors = np.array([np.std(values[key]) for key in keys])
        mean = np.array([truth[key] for key in keys], float)
        counted = np.array([totals[key] for key in keys]) / len(answers) * budget
        at_random = np.sqrt(np.abs(mean * (1 - mean)) / counted * (1 - budget / len(answers)))
        bias = np.mean([np.mean(values[key]) - truth[key] for key in keys])
        rates = [np.mean(covered[key]) for key in keys]
        ratio = f"{np.mean(errors) / np.mean(at_random):.2f}" if kind != "accuracy change" else "-"
        print(
            f"{kind:26}{np.mean(mean):7.1%}{100 * bias:+8.2f}{100 * np.mean(errors):10.2f}{ratio:>9}"
            f"{np.mean(rates):10.1%}{np.min(rates):8.1%}{100 * np.mean([np.mean(sizes[key]) for key in keys]):7.1f}"
        )


def simulate_answers(runs: list[Path], table: Path, budget: int, draws: int) -> None:
    """Draw from the answers of a table, with the given labels and without."""
    with table.open(newline="", encoding="utf-8") as rows:
        main = {row["image"]: row["main"] for row in csv.DictReader(rows)}
    data = read_data(runs, main)
    index = {name: k for k, name in enumerate(data.class_names)}
    answers = np.array([index.get(main[Path(image).name], NONE) for image in data.images])
    for labels in ([data.class_names[k] for k in data.true], None):
        population = make_population(data.models, data.class_names, labels, data.images, 0)
        title = f"{runs[0]}, labels: {'none' if labels is None else 'given'}, answers: {table.name}"
        simulate(population, answers, budget, draws, title)


def main() -> None:
    """Run all simulations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--answers", type=Path)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--budget", type=int, default=100)
    options = parser.parse_args()
    runs = [options.run, *([options.against] if options.against else [])]
    if options.answers:
        simulate_answers(runs, options.answers, options.budget, options.draws)
        return
    data = read_data(runs)
    num_classes = len(data.class_names)
    given = with_errors(data.true, WRONG_LABELS, num_classes, 1)
    for labels in (given, None):
        for wrong in (0.0, WRONG_ANSWERS):
            answers = with_errors(data.true, wrong, num_classes, 2)
            names = None if labels is None else [data.class_names[k] for k in labels]
            population = make_population(data.models, data.class_names, names, data.images, 0)
            title = f"{options.run}, labels: {'none' if labels is None else '7% wrong'}, wrong answers: {wrong:.0%}"
            simulate(population, answers, options.budget, options.draws, title)


if __name__ == "__main__":
    main()
