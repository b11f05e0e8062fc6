"""Recall and precision of near duplicates among documents that differ only in their text.

python benchmarks/documents.py [--seed 0] [--folder FOLDER]

Draws 450 documents of 10 layouts (invoices, receipts, forms, screenshots), and 50 copies: a fourth each is compressed
(JPEG quality 40 to 85), resized (0.6 to 1.5 times), cropped (up to 3% of each side) or brighter or darker (0.8 to 1.25
times). All are audited without labels. A pair of a group is right if both are the same document. With `--folder`, the
documents stay there.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

import belvedere
from belvedere.runtime.progress import LineProgress

NUM_DOCUMENTS, NUM_COPIES = 450, 50
KINDS = ("compressed", "resized", "cropped", "brightness")
WORDS = (
    "cable,desk,lamp,paper,chair,screen,printer,folder,marker,cleaning,delivery,support,license,hosting,repair,travel,"
    "coffee,water,bread,milk,apples,cheese,rice,tomato,butter,sugar,hotel,parking,ticket,service,battery,adapter"
)
NAMES = "Anna Bauer,Luis Ortega,Mei Chen,Tom Fisher,Ines Costa,Omar Haddad,Eva Novak,Raj Patel,Lena Vogel,Paul Martin"
Random = np.random.Generator
Draw = ImageDraw.ImageDraw


def words(random: Random, count: int) -> str:
    """Return some words."""
    return " ".join(random.choice(WORDS.split(","), count))


def name(random: Random) -> str:
    """Return a name of a person."""
    return str(random.choice(NAMES.split(",")))


def date(random: Random) -> str:
    """Return a date."""
    return f"{random.integers(2019, 2026)}-{random.integers(1, 13):02}-{random.integers(1, 29):02}"


def amount(random: Random) -> str:
    """Return an amount of money."""
    return f"{random.integers(1, 3000):,}.{random.integers(100):02}"


def put(draw: Draw, x: int, y: int, text: str, size: int = 13, color: str = "black") -> None:
    """Draw a text."""
    draw.text((x, y), text, color, ImageFont.load_default(size))


def logo(draw: Draw, x: int, y: int, color: str) -> None:
    """Draw a logo of 60 x 60 pixels."""
    draw.ellipse((x, y, x + 60, y + 60), color)
    draw.polygon([(x + 12, y + 45), (x + 30, y + 12), (x + 48, y + 45)], "white")


def table(draw: Draw, random: Random, box: tuple[int, int, int], rows: int) -> None:
    """Draw a table of descriptions, counts and amounts: left, top and right side."""
    left, top, right = box
    draw.rectangle((left, top, right, top + 22), "#dde3ee")
    for fraction, title in ((0.02, "Description"), (0.6, "Count"), (0.8, "Amount")):
        put(draw, round(left + fraction * (right - left)), top + 4, title)
    for row in range(rows):
        y = top + 26 + 22 * row
        put(draw, left + 8, y, words(random, 3))
        put(draw, round(left + 0.62 * (right - left)), y, str(random.integers(1, 40)))
        put(draw, round(left + 0.8 * (right - left)), y, amount(random))
        draw.line((left, y + 18, right, y + 18), "#cccccc")


def invoice(random: Random, color: str, rows: int, logo_x: int) -> Image.Image:
    """Draw an invoice with a logo, an address and a table."""
    image = Image.new("RGB", (620, 877), "white")
    draw = ImageDraw.Draw(image)
    logo(draw, logo_x, 40, color)
    put(draw, 60, 130, "INVOICE", 26, color)
    for row, text in enumerate((f"No. {random.integers(10**6)}", f"Date {date(random)}", name(random))):
        put(draw, 60, 180 + 20 * row, text)
    table(draw, random, (60, 280, 560), rows)
    put(draw, 380, 800, f"Total {amount(random)} EUR", 16)
    return image


def receipt(random: Random, title: str, rows: int) -> Image.Image:
    """Draw a narrow receipt."""
    image = Image.new("RGB", (320, 640), "#fbfaf5")
    draw = ImageDraw.Draw(image)
    put(draw, 90, 20, title, 22)
    put(draw, 80, 50, "12 Harbour Street")
    put(draw, 20, 90, f"{date(random)}  {random.integers(24):02}:{random.integers(60):02}")
    for row in range(rows):
        put(draw, 20, 120 + 22 * row, words(random, 2))
        put(draw, 230, 120 + 22 * row, amount(random))
    put(draw, 20, 560, f"TOTAL {amount(random)}", 18)
    put(draw, 70, 600, "Thank you. Come again")
    return image


def form(random: Random, title: str, columns: int) -> Image.Image:
    """Draw a form: most of it is printed, and only the fields differ."""
    image = Image.new("RGB", (620, 800), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((20, 20, 600, 780), outline="black", width=2)
    put(draw, 40, 40, title, 24)
    fields = ("Name", "Date of birth", "Address", "Reference", "Amount requested", "Reason", "Approved by", "Date")
    width = 540 // columns
    for number, field in enumerate(fields):
        x, y = 40 + number % columns * width, 110 + number // columns * 70
        put(draw, x, y, field, 12, "#444444")
        draw.rectangle((x, y + 18, x + width - 20, y + 46), outline="#888888")
        kind = (name, date, lambda random: words(random, 3), amount)[number % 4]
        put(draw, x + 8, y + 24, kind(random), 15, "#102080")
    for row in range(3):
        put(draw, 40, 690 + 20 * row, "I confirm that all statements above are true and complete to my knowledge.", 12)
    return image


def window(random: Random, title: str, color: str) -> Image.Image:
    """Draw a screenshot of a program with a list of messages."""
    image = Image.new("RGB", (800, 500), "#f4f4f8")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 800, 36), color)
    put(draw, 14, 9, title, 16, "white")
    draw.rectangle((0, 36, 150, 500), "#e2e2ea")
    for row, item in enumerate(("Home", "Inbox", "Sent", "Drafts", "Archive", "Settings")):
        put(draw, 16, 56 + 32 * row, item, 14)
    for row in range(9):
        y = 50 + 48 * row
        draw.ellipse((166, y, 196, y + 30), color)
        put(draw, 210, y, name(random), 14)
        put(draw, 210, y + 18, words(random, 7), 12, "#555555")
        put(draw, 710, y, date(random), 12)
    return image


def sheet(random: Random) -> Image.Image:
    """Draw a screenshot of a table of numbers."""
    image = Image.new("RGB", (800, 520), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 800, 40), "#1e7145")
    put(draw, 14, 10, "Budget - Tables", 16, "white")
    for column in range(8):
        draw.line((100 * column, 40, 100 * column, 520), "#cccccc")
        for row in range(20):
            draw.line((0, 40 + 24 * row, 800, 40 + 24 * row), "#cccccc")
            put(draw, 100 * column + 8, 44 + 24 * row, amount(random) if column else f"Item {row + 1}", 12)
    return image


LAYOUTS: tuple[Callable[[Random], Image.Image], ...] = (
    lambda random: invoice(random, "#b02020", 12, 60),
    lambda random: invoice(random, "#2050a0", 20, 480),
    lambda random: invoice(random, "#207050", 6, 280),
    lambda random: receipt(random, "CORNER SHOP", 12),
    lambda random: receipt(random, "CAFE LUNA", 18),
    lambda random: form(random, "Application form", 1),
    lambda random: form(random, "Travel expenses", 2),
    lambda random: window(random, "Mail", "#2858a8"),
    lambda random: window(random, "Team chat", "#5b3a8c"),
    sheet,
)


def write_copy(image: Image.Image, kind: str, random: Random, file: Path) -> None:
    """Write a copy of one kind."""
    (width, height), quality = image.size, 90
    if kind == "compressed":
        quality = int(random.integers(40, 86))
    elif kind == "resized":
        factor = random.uniform(0.6, 1.5)
        image = image.resize((round(width * factor), round(height * factor)), Image.Resampling.BICUBIC)
    elif kind == "cropped":
        left, top, right, bottom = (random.uniform(0, 0.03, 4) * (width, height, width, height)).round().astype(int)
        image = image.crop((left, top, width - right, height - bottom))
    else:
        image = ImageEnhance.Brightness(image).enhance(random.choice([0.8, 0.9, 1.1, 1.25]))
    image.save(file, quality=quality)


def draw_documents(folder: Path, seed: int) -> dict[str, str]:
    """Write the documents; return the kind of each copy, by its name without suffix, which is its original's too."""
    random = np.random.default_rng(seed)
    copies = dict(zip(random.permutation(NUM_DOCUMENTS).tolist(), KINDS * (NUM_COPIES // 4 + 1), strict=False))
    copied = dict(list(copies.items())[:NUM_COPIES])
    for label in ("first", "second"):
        (folder / label).mkdir(parents=True)
    for number in range(NUM_DOCUMENTS):
        image = LAYOUTS[number % len(LAYOUTS)](random)
        image.save(folder / "first" / f"{number:03}.png")
        if number in copied:
            write_copy(image, copied[number], random, folder / "second" / f"{number:03}.jpg")
    return {f"{number:03}": kind for number, kind in copied.items()}


def measure(folder: Path, seed: int) -> None:
    """Draw the documents into a folder, audit them and print recall and precision."""
    kinds = draw_documents(folder, seed)
    start = time.perf_counter()
    found = belvedere.audit(folder, label_issues=False, progress=LineProgress())
    seconds = time.perf_counter() - start
    pairs = {
        (Path(first).stem, Path(second).stem)
        for group in found.groups
        for index, first in enumerate(group.images)
        for second in group.images[index + 1 :]
    }
    right = {first for first, second in pairs if first == second}
    wrong = sorted((first, second) for first, second in pairs if first != second)
    planted, recalled = Counter(kinds.values()), Counter(kinds[stem] for stem in right)
    listed = ", ".join(f"{kind} {recalled[kind]} of {planted[kind]}" for kind in KINDS)
    precision = len(right) / max(len(right) + len(wrong), 1)
    print(f"recall {len(right) / len(kinds):.3f} ({listed}), precision {precision:.3f} ({len(wrong)} wrong pairs)")
    print(f"{seconds:.0f} s; missed: {sorted(set(kinds) - right)}; wrong: {wrong[:10]}")
    for warning in found.warnings:
        print(warning.message)


def main() -> None:
    """Draw the documents, audit them and print recall and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.folder:
        measure(options.folder, options.seed)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), options.seed)


if __name__ == "__main__":
    main()
