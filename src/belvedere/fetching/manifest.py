"""Manifests: which images a dataset has, with hashes of their decoded pixels, and how a folder differs from that.

Files of one dataset are packed, renamed and rewritten by those who copy it. Its decoded pixels stay the same unless
somebody encodes them again, so that these are compared: with libjpeg-turbo, the decoder of `images.decode`.
"""

import base64
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from belvedere.data.hashing import hash_pixels
from belvedere.errors import InvalidImageError
from belvedere.images.decode import DECODER_VERSION, read_image
from belvedere.images.listing import list_images
from belvedere.runtime.files import write_text
from belvedere.runtime.parallel import parallel_map
from belvedere.runtime.progress import Progress
from belvedere.runtime.terminal import count
from belvedere.types.data import DataWarning

HASH_BYTES = 6  # a changed image has the same hash once in 2.8e14
CHUNK_SIZE = 16  # images per thread and turn
HEADER = """\
# Images of a dataset, which `belvedere fetch` compares with what it has unpacked. Made by tools/make_manifest.py.
# Each line: the name of the file without suffix, and the first 6 bytes, as base64, of the hash of its decoded pixels
# (`hash_pixels` in data/hashing.py). "split NAME N": the split has N images, of which all or some are listed.
"""


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image of a dataset."""

    split: str
    label: str
    stem: str  # name of the file without suffix
    pixel_hash: str  # base64; empty if it cannot be decoded

    def __str__(self) -> str:
        return f"{self.split}/{self.label}/{self.stem}"


@dataclass(frozen=True)
class Manifest:
    """The images of a dataset, as far as they are known."""

    images: tuple[ListedImage, ...]
    num_images: Mapping[str, int]  # of each split, also those that are not listed

    def is_whole(self, split: str) -> bool:
        """Return whether all images of a split are listed."""
        return self.num_images.get(split, 0) == sum(image.split == split for image in self.images)


@dataclass(frozen=True)
class ManifestComparison:
    """Differences of a folder from a manifest; images are named as SPLIT/CLASS/NAME."""

    num_listed: int
    num_same: int  # with the same pixels, label and split, under any name
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    other_label: tuple[str, ...] = ()  # "as here (as listed)"; with the same or with other pixels
    other_split: tuple[str, ...] = ()
    other_pixels: tuple[str, ...] = ()  # the same name, but encoded again or changed
    unlisted: tuple[str, ...] = ()  # of a split that is not listed as a whole
    unreadable: tuple[str, ...] = ()

    def warnings(self) -> tuple[DataWarning, ...]:
        """Return a warning for each kind of difference."""
        kinds = {
            "missing": self.missing,
            "not in the manifest": self.extra,
            "with another label than in the manifest": self.other_label,
            "in another split than in the manifest": self.other_split,
            "with other pixels than in the manifest: encoded again or changed, or decoded by another libjpeg": (
                self.other_pixels
            ),
            "that cannot be read": self.unreadable,
        }
        return tuple(
            DataWarning(f"{count(len(names), 'image')} {kind}", names) for kind, names in kinds.items() if names
        )


def read_manifest(path: Path) -> Manifest:
    """Read a manifest."""
    images, sizes = list[ListedImage](), dict[str, int]()
    split = label = ""
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("["):
            split, _, label = line.strip("[]").partition("/")
        elif line.startswith("split "):
            _, name, size = line.split()
            sizes[name] = int(size)
        elif line and not line.startswith(("#", "decoder ")):
            stem, _, pixel_hash = line.rpartition(" ")
            images.append(ListedImage(split, label, stem, pixel_hash))
    return Manifest(tuple(images), sizes)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest, with the version of the decoder."""
    groups = defaultdict[tuple[str, str], list[ListedImage]](list)
    for image in manifest.images:
        groups[image.split, image.label].append(image)
    lines = [f"decoder {DECODER_VERSION}", *(f"split {name} {size}" for name, size in manifest.num_images.items())]
    for (split, label), images in groups.items():
        lines.append(f"[{split}/{label}]")
        lines += [f"{image.stem} {image.pixel_hash}" for image in images]
    write_text(path, HEADER + "\n".join(lines) + "\n")


def list_pixels(folder: Path, splits: Iterable[str], progress: Progress) -> Iterator[ListedImage]:
    """Yield the images of splits in a folder, decoded and hashed in threads."""
    paths = [path for split in splits if (folder / split).is_dir() for path in list_images(folder / split)]

    def read(path: Path) -> ListedImage:
        split, label = path.relative_to(folder).parts[:2]
        try:
            hashed = base64.urlsafe_b64encode(hash_pixels(read_image(path))[:HASH_BYTES]).decode()
        except InvalidImageError:
            hashed = ""
        return ListedImage(split, label, path.stem, hashed)

    with progress.task("Comparing with the manifest", len(paths)) as task:
        for image in parallel_map(read, paths, chunk_size=CHUNK_SIZE):
            task.advance(1)
            yield image


def compare_with_manifest(found: Iterable[ListedImage], manifest: Manifest) -> ManifestComparison:
    """Compare images with a manifest: by their pixels, and those with other pixels by their names."""
    waiting = defaultdict[tuple[str, ...], list[ListedImage]](list)
    for listed in manifest.images:
        waiting[listed.split, listed.label, listed.pixel_hash].append(listed)
    rest: list[ListedImage] = []
    for image in found:
        if same := waiting.get((image.split, image.label, image.pixel_hash)):
            same.pop()
        else:
            rest.append(image)
    absent = [image for images in waiting.values() for image in images]
    differences = _explain(rest, absent, {split for split in manifest.num_images if manifest.is_whole(split)})
    num_listed = len(manifest.images)
    return ManifestComparison(
        num_listed, num_listed - len(absent), **{kind: tuple(names) for kind, names in differences.items()}
    )


def _explain(
    found: Iterable[ListedImage], absent: Sequence[ListedImage], whole_splits: Container[str]
) -> dict[str, list[str]]:
    """Name the differences, by the fields of `ManifestComparison`."""
    differences = defaultdict[str, list[str]](list)
    missing = dict.fromkeys(absent)
    by_pixels = {image.pixel_hash: image for image in absent}
    by_stem = {image.stem: image for image in absent}
    for image in found:
        same = by_pixels.get(image.pixel_hash)
        listed = same if same in missing else by_stem.get(image.stem)
        if not image.pixel_hash:
            differences["unreadable"].append(str(image))
        elif listed not in missing:
            differences["extra" if image.split in whole_splits else "unlisted"].append(str(image))
        elif listed is not same:
            differences["other_pixels"].append(str(image))
        if listed in missing:
            del missing[listed]
            _name_place(image, listed, differences)
    differences["missing"] = [str(image) for image in missing]
    return differences


def _name_place(image: ListedImage, listed: ListedImage, differences: dict[str, list[str]]) -> None:
    if image.label != listed.label:
        differences["other_label"].append(f"{image} (listed as {listed.label})")
    elif image.split != listed.split:
        differences["other_split"].append(f"{image} (listed in {listed.split})")
