"""Public names use the words of the field: none of the replaced words occurs in options, keys, columns or the API."""

import inspect
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

import belvedere
from belvedere.auditing.checks import CHECKS
from belvedere.cli.app import app
from belvedere.data.array_cache import KINDS
from belvedere.inference.export import FORMATS
from belvedere.inference.model import Model
from belvedere.inference.model_card import card_to_metadata
from belvedere.inference.model_graph import OPTIONAL_OUTPUTS, OUTPUTS
from belvedere.serving import schema
from belvedere.serving.metrics import Metrics
from belvedere.training.recipes import RECIPES, Recipe
from belvedere.types.data import Decision, Sample
from belvedere.types.prediction import Prediction, Tag
from conftest import CARD, write_classes

ROOT = Path(__file__).parents[1]

# Whole names that are forbidden everywhere, in snake case; options count as names.
REPLACED = {
    # recipe keys
    *("optimiser", "least_steps", "learning_rate_plan", "side_plan", "input_side", "source_side", "crop_area", "flip"),
    *("colour", "erase", "mix", "paste", "average_decay", "average_from", "both_ways", "whiten", "choose_by"),
    *("validation_share", "test_share", "teacher_side", "teacher_share", "teacher_crops", "unlabelled", "l2"),
    *("l2_kernels", "adam_epsilon", "probes_only", "finetuned"),
    # options and commands
    *("photos", "journal", "backbones", "backbone", "minutes", "outliers", "sheet", "engine", "form", "calibration"),
    *("views", "no_labels", "no_near", "strict", "who", "queue", "batch", "megabytes", "megapixels", "seconds"),
    # columns and keys
    *("none_score", "presence", "notes", "unreadable", "part", "abstaining", "sets", "promised", "kept_by_model"),
    *("accepted_by_model", "baseline_auroc", "baseline_accepted", "share_error", "confused_pairs", "parity", "share"),
    *("photographs", "photographs_sha256", "processes", "check", "flagged", "detail", "suggestion"),
    *("given_probability", "leak", "contradiction", "wrong_label", "same_bytes", "same_pixels", "turned", "grey"),
    *("odd_shape", "bright", "blurred", "plain", "tiny", "wrong_suffix", "imbalance", "labels_doubted_by", "parts"),
    *("further", "likeness", "given", "when", "why", "about", "holds", "evidence", "outlier_score", "trust"),
    *("set_mass", "set_coverage", "outlier_quantiles", "first_tags", "fitted_on", "base", "sketch"),
    # error codes and Prometheus names
    *("too_late", "too_slow", "ending", "damaged_form", "head_too_large", "unreadable_picture", "no_pictures"),
    *("memory_full", "gone", "client_closed", "input", "answers", "refused", "none_of_these_share", "batch_pictures"),
    *("queue_pictures", "pictures"),
    # Python
    *("read_folder", "load", "run_server", "run_review", "export_model", "draw_practice_set", "print_recipe"),
    *("read_journal", "describe_network", "list_backbones", "Calibrated", "explain", "run_all", "stream"),
    *("answer_batch", "put_into_words", "tells_places", "embedding_width", "also", "areas", "Note", "leads", "route"),
    *("UnknownName", "FolderExists", "MissingExtra", "UnreadableImage", "UnreadableModel", "TooManyPixels"),
    *("ScaleError", "say", "say_notes", "skip", "for_stderr", "UNDIVIDED", "DownloadError"),
}
# Whole names that are forbidden in one place, since they are correct in another.
REPLACED_IN: dict[str, set[str]] = {
    "options": {"labels", "files"},
    "recipe": set(),
    "recipe names": {"pretrained", "finetuned"},
    "files": {"classes", "prediction", "probability", "accepted", "score", "from", "pixels"},
    "service": {"classes", "prediction", "probability"},
    "API": set(),
}
REPLACED_MEMBERS = {  # class -> attributes and methods
    "Model": {"run", "answer", "explain"},
    "Prediction": {"prediction", "none_score", "presence", "notes"},
    "Dataset": {"part", "labels", "notes"},
    "Sample": {"image", "part", "also", "areas"},
    "Audit": {"labels", "route"},
    "Issue": {"check", "flagged", "detail", "suggestion", "score"},
    "Evaluation": {"part", "calibration", "abstaining", "sets", "outliers", "confused_pairs"},
}
# Words that are forbidden as a part of a name, too.
WORDS = {
    *("photo", "photos", "photograph", "photographs", "picture", "pictures", "colour", "colours", "grey", "share"),
    *("shares", "side", "sides", "optimiser", "unlabelled", "neighbour", "neighbours", "told", "asked", "strangers"),
    *("learnt", "likeliest", "licence", "journal", "outliers", "backbones", "minutes"),
}
# Names with another, ordinary meaning in one place.
ALLOWED: dict[str, set[str]] = {
    "API": {
        "load",
        "seconds",
        "max_minutes",
    },  # Run.load, as in pickle; columns; the unit of a limit
    "files": {"seconds", "unreadable", "max_minutes"},  # duration of an epoch in history.csv; an audit check
    "options": {"max_minutes"},
}


def faults(names: set[str], place: str) -> dict[str, str]:
    """Return the names that use a replaced word, with the word."""
    found = {}
    for name in names:
        parts = set(re.split(r"[_\W]+", name.lower()))
        if name in REPLACED | REPLACED_IN[place]:
            found[name] = name
        elif words := parts & WORDS:
            found[name] = ", ".join(sorted(words))
    return {name: word for name, word in found.items() if name not in ALLOWED.get(place, ())}


def walk_keys(value: object) -> Iterator[str]:
    """Yield all keys of a JSON document but class names and paths."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from walk_keys(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from walk_keys(each)


def commands() -> Iterator[tuple[str, Any]]:
    pending = [("belvedere", typer.main.get_command(app))]
    while pending:
        name, command = pending.pop()
        yield name, command
        if isinstance(command, TyperGroup):
            pending += command.commands.items()


def test_the_words_are_found() -> None:
    assert faults({"photos", "num_photos", "test_share", "images", "flip_tta", "num_images"}, "recipe") == {
        "photos": "photos",
        "num_photos": "photos",
        "test_share": "test_share",
    }


def test_commands_and_options() -> None:
    found = dict(commands())
    assert {"train", "predict", "corrections", "networks"} <= found.keys()
    options = {
        option.lstrip("-").replace("-", "_")
        for command in found.values()
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert {"contact_sheet", "max_minutes"} <= options
    assert faults(options | {name.replace("-", "_") for name in found}, "options") == {}


def test_recipe_keys_and_names() -> None:
    assert faults({field.name for field in fields(Recipe)}, "recipe") == {}
    assert faults({*RECIPES}, "recipe names") == {}


def test_keys_and_columns_of_files(opened: Model, trained: Path, tmp_path: Path) -> None:
    data, results, audited = write_classes(tmp_path / "data", 4), tmp_path / "results", tmp_path / "audit"
    belvedere.evaluate(opened, data, out=results)
    belvedere.audit(data, out=audited, label_issues=False)
    files = [path for folder in (results, audited, trained / "run") for path in folder.rglob("*")]
    written = {"metrics.json", "predictions.csv", "issues.csv", "audit.json", "history.csv", "config.toml"}
    assert written <= {path.name for path in files}
    names = {field.name for field in fields(Decision)}  # a line of a corrections file
    for path in files:
        if path.suffix == ".json":
            names |= {key for key in walk_keys(json.loads(path.read_text("utf-8"))) if "/" not in key}
        elif path.suffix == ".toml":
            names |= {*walk_keys(tomllib.loads(path.read_text("utf-8")))}
        elif path.suffix == ".csv":
            names |= {*path.read_text("utf-8").splitlines()[0].split(",")}
    tags, names_of_classes = (Tag("red", 1.0, 1.0),), ("red",)
    prediction = Prediction(
        "1", "red", 1.0, (1.0,), tags=tags, tag_probability_values=(1.0,), class_names=names_of_classes
    )
    names |= {*walk_keys(prediction.to_dict())}
    for name, value in card_to_metadata(CARD).items():
        names.add(name)
        try:
            names |= {*walk_keys(json.loads(value))}
        except ValueError:
            continue
    assert {"num_images", "prob_red", "issue_type", "tag_probabilities", "data_sha256", "world_size"} <= names
    assert faults(names, "files") == {}


def test_names_of_checks_formats_outputs_and_caches() -> None:
    assert faults({*CHECKS, *FORMATS, *OUTPUTS, *OPTIONAL_OUTPUTS, *KINDS}, "files") == {}


def test_schema_error_codes_and_metrics_of_the_service() -> None:
    names = {name for model in vars(schema).values() if hasattr(model, "model_fields") for name in model.model_fields}
    assert "predicted_label" in names
    source = "".join(path.read_text("utf-8") for path in (ROOT / "src/belvedere/serving").glob("*.py"))
    codes = {code for call in re.findall(r"HTTPError\((.*?)\n", source) for code in re.findall(r'"([a-z_]+)"', call)}
    assert "invalid_image" in codes
    metrics = {family.name.removeprefix("belvedere_") for family in Metrics().registry.collect()}
    assert {"queue_length", "ood_ratio"} <= metrics
    assert faults(names | codes | metrics, "service") == {}


def public_members(thing: type) -> dict[str, object]:
    return {name: value for name, value in inspect.getmembers(thing) if not name.startswith("_")}


def test_python_names_and_parameters() -> None:
    things = {name: getattr(belvedere, name) for name in belvedere.__all__}
    names = {*things}
    functions = [thing for thing in things.values() if inspect.isfunction(thing)]
    for thing in filter(inspect.isclass, things.values()):
        members = public_members(thing)
        names |= {*members} - {*dir(Exception), *dir(dict)}
        functions += [value for value in members.values() if inspect.isfunction(value)]
    for function in functions:
        names |= {*inspect.signature(function).parameters}
    assert {"predict", "predict_iter", "prediction_set", "overwrite"} <= names
    assert faults(names, "API") == {}


def test_attributes_and_methods_of_public_classes() -> None:
    classes = {name: getattr(belvedere, name, Sample) for name in REPLACED_MEMBERS}
    assert {name: {*public_members(classes[name])} & old for name, old in REPLACED_MEMBERS.items()} == {
        name: set() for name in classes
    }


# Part of --max-minutes; file of a benchmark; folder of an experiment; data folder of the examples in experiments.md.
PAGE_EXCEPTIONS = {"minutes", "max_minutes", "backbones", "sides", "photographs"}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_headings_and_code_of_the_pages(page: Path) -> None:
    """Headings by the words; code, where a name is meant, by the names with an underscore and the options as well."""
    text = page.read_text("utf-8")
    headings = {word for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE) for word in re.findall(r"\w+", line)}
    code = {name for span in re.findall(r"`([^`\n]+)`", text) for name in re.findall(r"[A-Za-z_]\w*", span)}
    options = {name.replace("-", "_") for name in re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*)", text)}
    wrong = {name for name in headings if name.lower() in WORDS}
    wrong |= {name for name in code if (name in REPLACED and ("_" in name or name[0].isupper())) or name in WORDS}
    wrong |= {name for name in options if name in REPLACED or set(name.split("_")) & WORDS}
    assert wrong - PAGE_EXCEPTIONS == set()


# Words of prose that were replaced. experiments.md and the table of old names in CHANGELOG.md are a history.
REPLACED_IN_PROSE = (
    r"photographs?(?!/)|(?<!multi-)pictures?|colours?|grey|neighbours?|licences?|optimisers?|unlabelled|labelled|learnt"
    r"|kept back|surest|likeliest|strangers|whoever|lest|the figures flatter|is told|are told|knows nothing"
    r"|(?<!systemd[ \n])journal|parity|remarks?|\w+n't|it's|cut off|gone on with|mend(?:s|ed|ing)?|stands? on|taught"
    r"|reading rules?|practice sets?|heat-maps?|from one view|both ways|what is taken for what|ha(?:s|ve) a word"
)
CHANGELOG = ROOT / "CHANGELOG.md"
OTHER_PROSE = [CHANGELOG, *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "docs/llms.txt"))]
OTHER_PROSE += [ROOT / "docs" / "notebook.ipynb", *sorted((ROOT / "benchmarks" / "results").glob("*.md"))]
PROSE = [page for page in (*PAGES, *OTHER_PROSE) if page.name != "experiments.md"]


def read_prose(page: Path) -> str:
    """Return a page: of a notebook the text between its code, of the changelog all but the table of old names."""
    text = page.read_text("utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"^\| \| old \| new \|\n(\|.*\n)+", "", text, flags=re.MULTILINE) if page == CHANGELOG else text


@pytest.mark.parametrize("page", PROSE, ids=name_of)
def test_prose_of_the_pages(page: Path) -> None:
    assert re.findall(rf"\b(?:{REPLACED_IN_PROSE})\b", read_prose(page), re.IGNORECASE) == []


# The demo paints: its scenes have colors and views of their own.
PACKAGE = ROOT / "src" / "belvedere"
SOURCES = sorted(
    path
    for path in PACKAGE.rglob("*")
    if path.suffix in {".py", ".html", ".js"} and PACKAGE / "demo" / "scenes" not in path.parents
)


def test_there_are_sources() -> None:
    assert {".py", ".html", ".js"} == {path.suffix for path in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_prose_of_the_sources(source: Path) -> None:
    """Comments, docstrings and messages, and identifiers that are such a word."""
    text = source.read_text("utf-8")
    assert re.findall(rf"\b(?:{REPLACED_IN_PROSE}|doubt\w*)\b", text, re.IGNORECASE) == []
