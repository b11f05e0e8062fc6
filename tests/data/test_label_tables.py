"""Small files that would take much more than their size, and names and documents that go too deep: one line each."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from belvedere.data.dataset import load_dataset
from belvedere.errors import DatasetError, InvalidImageError, UsageError
from belvedere.evaluation.run_folder import read_predictions
from belvedere.images.inputs import read_inputs
from belvedere.images.listing import list_images
from belvedere.inference.batch import predict_files
from belvedere.inference.model import Model
from belvedere.training.recipe_config import choose_recipe
from belvedere.training.run import Run
from belvedere.training.train import train
from conftest import sheets, write_image
from odd_files import write_odd_files

DEPTH = 1500
NESTED = 5000
needs_posix = pytest.mark.skipif(os.name != "posix", reason="limits of paths")
MEMORY = 400_000_000  # of a process that refuses a bomb, without what it takes to start


def belvedere(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "belvedere", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def assert_one_line(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode in (1, 2), done.stderr
    *before, last = done.stderr.splitlines()
    assert all(line.startswith("Model: ") for line in before)
    assert last.startswith("belvedere: ")
    assert "fault in Belvedere" not in done.stderr


def write_parquet(path: Path, image: pyarrow.Array, label: pyarrow.Array, **options: object) -> Path:
    pyarrow.parquet.write_table(pyarrow.table({"image": image, "label": label}), path, compression="zstd", **options)
    return path


def repeat(text: str, times: int) -> pyarrow.Array:
    """A column of equal cells, which takes no memory here either."""
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * times, pyarrow.int32()), [text])


def many_rows(path: Path) -> Path:
    return write_parquet(path, repeat("a.png", 20_000_000), repeat("sea", 20_000_000))


def long_cells(path: Path) -> Path:
    return write_parquet(path, repeat("a" * 1_000_000, 50_000), repeat("sea", 50_000))


def long_pages(path: Path) -> Path:
    image = pyarrow.array([f"{number}{'a' * 100_000}" for number in range(4000)])
    return write_parquet(path, image, repeat("sea", 4000), use_dictionary=["label"])


def wide_csv(path: Path) -> Path:
    """A row without an end for each line would take the product of both: terabytes."""
    path = path.with_suffix(".csv")
    path.write_text("image,label" + ",x" * 100_000 + "\n" + "a.png,sea\n" * 100_000)
    return path


@pytest.mark.parametrize("make", [many_rows, long_cells, long_pages])
def test_a_table_that_unpacks_to_gigabytes_is_refused(make: object, tmp_path: Path) -> None:
    path = make(tmp_path / "t.parquet")  # type: ignore[operator]
    assert path.stat().st_size < 1_500_000
    program = (
        "import resource, sys\n"
        "from belvedere.data.dataset import load_dataset\n"
        "from belvedere.errors import DatasetError\n"
        "import pyarrow.parquet\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    load_dataset(sys.argv[1])\n"
        "except DatasetError as error:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < MEMORY
    assert_one_line(belvedere("audit", path, "--out", "audit", cwd=tmp_path))


def test_a_wide_table_takes_no_room_for_columns_that_nobody_reads(tmp_path: Path) -> None:
    path = wide_csv(tmp_path / "t")
    (tmp_path / "a.png").touch()
    data = load_dataset(path)
    assert (len(data.samples), data.class_names) == (1, ("sea",))  # repeated rows are one


def test_a_wide_table_without_the_columns_has_a_short_error(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(",".join(f"column{number}" for number in range(50_000)) + "\n")
    with pytest.raises(DatasetError, match=r"column19 and 49,980 more") as raised:
        load_dataset(tmp_path / "t.csv")
    assert len(str(raised.value)) < 1000


def test_a_usual_table_is_read(tmp_path: Path) -> None:
    """Names one after the other pack to a two hundredth."""
    count = 100_000
    names = pyarrow.array([f"images/sea/{number:06}.jpg" for number in range(count)])
    write_image(tmp_path / names[0].as_py(), "red")
    write_parquet(tmp_path / "t.parquet", names, repeat("sea", count))
    data = load_dataset(tmp_path / "t.parquet")
    assert (len(data.samples), data.samples[-1].path.name) == (count, f"{count - 1:06}.jpg")
    write_parquet(tmp_path / "plain.parquet", names, pyarrow.array(["sea"] * count), use_dictionary=False)
    assert len(load_dataset(tmp_path / "plain.parquet").samples) == count


@contextmanager
def deep_folders(folder: Path, name: str, depth: int) -> Iterator[None]:
    """Folders in each other, and an image in the last; paths may be longer than the system takes.

    They are deleted at the end: pytest, which keeps temporary folders for a while, could not do it.
    """
    content = write_image(folder.parent / f"{folder.name}.png", "red").read_bytes()
    folder.mkdir()
    start = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=start)
        inner = os.open(name, os.O_RDONLY, dir_fd=start)
        os.close(start)
        start = inner
    with open("deep.png", "wb", opener=lambda file, flags: os.open(file, flags, dir_fd=start)) as file:
        file.write(content)
    os.close(start)
    try:
        yield
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


@needs_posix
def test_deep_folders_are_walked(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    with deep_folders(folder, "d", DEPTH):
        [found] = list_images(folder)
        assert len(found.relative_to(folder).parts) == DEPTH + 1
        [sample] = load_dataset(folder).samples
        assert (sample.path, sample.label) == (found, "d")


@needs_posix
def test_folders_that_are_too_deep_end_in_a_line(tmp_path: Path, tiny_model: Path) -> None:
    with deep_folders(tmp_path / "deep", "d" * 50, 200):
        for words in (["predict", tiny_model], ["audit", "--out", "out"], ["evaluate", tiny_model]):
            assert_one_line(belvedere(*words, "deep", cwd=tmp_path))


@needs_posix
def test_names_that_are_too_long_end_in_a_line(tmp_path: Path, tiny_model: Path) -> None:
    write_image(tmp_path / "deep.png", "red")
    for words in (
        ["predict", tiny_model, "deep.png", "--out", "x/" * 3000 + "a.csv"],
        ["audit", "deep.png", "--out", "x" * 300],
        ["show", "x/" * 3000 + "model.onnx"],
        ["corrections", "x" * 300],
    ):
        assert_one_line(belvedere(*words, cwd=tmp_path))


DEEP_TOML = {
    "arrays": f"[recipe]\nepochs = {'[' * NESTED}{']' * NESTED}\n",
    "tables": f"[recipe]\nepochs = {'{a = ' * NESTED}1{'}' * NESTED}\n",
    "keys": f"[recipe]\nepochs{'.a' * NESTED} = 1\n",
}


@pytest.mark.parametrize("text", DEEP_TOML.values(), ids=DEEP_TOML)
def test_a_deep_recipe_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text(text)
    assert_one_line(belvedere("train", "--config", "deep.toml", "--print-config", cwd=tmp_path))
    with pytest.raises((UsageError, RecursionError)):
        choose_recipe("quick", tmp_path / "deep.toml")


def test_deep_json_is_refused(tmp_path: Path) -> None:
    deep_json = '{"a": ' * 100_000
    for name in ("audit.json", "metrics.json", "predictions.csv", "corrections.jsonl"):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_text(deep_json)
    assert_one_line(belvedere("review", "run", cwd=tmp_path))
    assert_one_line(belvedere("compare", "run", "run", cwd=tmp_path))
    with pytest.raises(UsageError):
        read_predictions(tmp_path / "run")
    assert json.loads(belvedere("corrections", "run/corrections.jsonl", "--json", cwd=tmp_path).stdout)[
        "damaged_lines"
    ] == [1]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux for the memory of a process")
def test_an_image_that_memory_does_not_suffice_for_is_one_image(tiny_model: Path, tmp_path: Path) -> None:
    """The limit is set by what the process has before, since libraries take address space as they like."""
    from PIL import Image

    Image.new("L", (9000, 9000)).save(tmp_path / "large.png")
    Image.new("RGB", (9000, 9000)).save(tmp_path / "large.jpg", quality=30)
    write_image(tmp_path / "small.png", "red")
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from belvedere.inference.model import load_model\n"
        "model = load_model(sys.argv[1])\n"
        "model.predict_batch(['small.png'])\n"
        "here = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (here + 60_000_000, here + 60_000_000))\n"
        "for answer in model.predict_batch(['large.png', 'small.png', 'large.jpg', 'small.png']):\n"
        "    print(answer.predicted_label, answer.error)\n"
    )
    command = [sys.executable, "-c", program, str(tiny_model)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    line = "None not enough memory"
    assert done.stdout.splitlines() == [line, "red None", line, "red None"], done.stderr


def test_what_was_read_of_a_bad_image_is_given_back(tmp_path: Path, opened: Model) -> None:
    """A traceback keeps bytes and pixels; the errors of many images wait while others are read."""
    (tmp_path / "bad.png").write_bytes(write_image(tmp_path / "good.png", "red").read_bytes()[:40])
    [error] = read_inputs([tmp_path / "bad.png"], opened.card.preprocess)
    assert isinstance(error, InvalidImageError)
    assert (error.__traceback__, error.__context__, error.__cause__) == (None, None, None)


CLASSES = ("<script>alert(1)</script>", "..", "naïve café")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A table over a folder with every odd file, and the names of those that cannot be read."""
    folder = tmp_path_factory.mktemp("odd")
    readable, unreadable = write_odd_files(folder)
    random = np.random.default_rng(0)
    rows = []
    for index, name in enumerate([*readable, *unreadable]):
        rows.append((name, CLASSES[index % 3], ("train", "test")[index % 4 == 3]))
    for index in range(18):
        pixels = np.clip(80 * (index % 3) + random.integers(0, 60, (30, 30, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"plain {index}.png")
        rows.append((f"plain {index}.png", CLASSES[index % 3], ("train", "test")[index % 6 > 2]))
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "split"))
        writer.writerows(rows)
    return folder / "table.csv", unreadable


@pytest.fixture(scope="module")
def run(table: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(table[0], out=tmp_path_factory.mktemp("runs") / "run", epochs=1)


def test_training_names_every_file_it_can_not_read(run: Run, table: tuple[Path, list[str]]) -> None:
    text = (run.folder / "train.log").read_text() + (run.folder / "predictions.csv").read_text()
    for name in table[1]:
        assert name in text, name
    assert set(run.evaluation.class_names) == set(CLASSES)


def test_prediction_names_them_too(run: Run, table: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, unreadable = table[0].parent, table[1]
    sources = [folder / name for name in unreadable] + [folder]
    answered = predict_files(run.load(), sources, "jsonl", out=tmp_path / "a.jsonl", sinks=sheets(tmp_path / "a.png"))
    answers = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(answers) == answered.num_images
    refused = {Path(answer["image"]).name for answer in answers if answer["error"]}
    assert refused == set(unreadable)
    assert all(answer["predicted_label"] in CLASSES for answer in answers if not answer["error"])


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.num_scripts = 0
        self.handlers: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.num_scripts += tag == "script"
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_nothing_in_the_report_can_run(run: Run) -> None:
    page = _Elements()
    page.feed((run.folder / "report.html").read_text(encoding="utf-8"))
    assert page.num_scripts == 1  # that of the page, named by its hash in the policy
    assert page.handlers == []
    for name in CLASSES:
        assert name in page.text
    assert {path.name for path in run.folder.parent.iterdir()} == {"run"}  # the class ".." wrote nothing outside


def test_a_real_browser_runs_nothing(run: Run, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
    done = subprocess.run(
        [chromium, *options, f"--user-data-dir={tmp_path}", "--dump-dom", (run.folder / "report.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.count("<script") == 1  # that of the page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in done.stdout
