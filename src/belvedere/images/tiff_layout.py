"""Decides which TIFF layouts are read, and refuses the others by name.

Pillow decodes some layouts to wrong pixels, without an error. The layouts that are read here are right: the tests
compare them with tifffile. Bands in separate planes, and bands in which 0 is white, are decoded one by one, each as a
gray image.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from belvedere.images.formats import COPY_AGAIN
from belvedere.images.limits import ImageRejectedError
from belvedere.images.tiff_directories import TIFF_MARKS, Directories

WHITE_IS_ZERO, GRAY, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6

_BIG_ENDIAN_BIG_TIFF = b"MM\x00+"  # Pillow takes it for an older TIFF
_FAX, _OLD_JPEG, _JPEG = (2, 3, 4), 6, 7
_COMPRESSIONS = (1, *_FAX, 5, _OLD_JPEG, _JPEG, 8, 32773, 32946, 34925, 50000)
_COMPRESSION_NAMES = {33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC"}
_COMPRESSION_NAMES |= {50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"}
_SAMPLE_FORMATS = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
_COLORS = {WHITE_IS_ZERO: 1, GRAY: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}  # bands without extra ones
_COLOR_NAMES = {4: "a transparency mask", 8: "CIE Lab", 9: "ICC Lab", 10: "ITU Lab"}
_COLOR_NAMES |= {32844: "LogL", 32845: "LogLuv"}
_IGNORED, _ASSOCIATED, _ALPHA, _COREL_ALPHA = 0, 1, 2, 999  # kinds of extra bands
# Bits per sample that are read, by colors and extra bands.
_BITS: Mapping[int, Mapping[tuple[int, ...], tuple[int, ...]]] = {
    WHITE_IS_ZERO: {(): (1, 2, 4, 8, 16)},
    GRAY: {(): (1, 2, 4, 8, 16), (_IGNORED,): (8,), (_ALPHA,): (8,)},
    RGB: {
        **dict.fromkeys(((), (_IGNORED,), (_ASSOCIATED,), (_ALPHA,)), (8, 16)),
        **dict.fromkeys(((_COREL_ALPHA,), (_IGNORED,) * 2, (_IGNORED,) * 3), (8,)),
        **dict.fromkeys(((alpha, *more) for alpha in (_ASSOCIATED, _ALPHA) for more in ((0,), (0, 0))), (8,)),
    },
    PALETTE: {(): (1, 2, 4, 8)},
    CMYK: {(): (8, 16), (_IGNORED,): (8,), (_IGNORED,) * 2: (8,)},
    YCBCR: {(): (8,)},
}
_ALPHA_MODES = {_ASSOCIATED: "RGBa", _ALPHA: "RGBA", _COREL_ALPHA: "RGBA"}
_MAX_BANDS = 6
_MAX_VALUE = 2**32 - 1
_ADVICE = "Save it as 8-bit gray or RGB."

_WIDTH, _LENGTH, _BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIP_POSITIONS, _ORIENTATION, _SAMPLES, _ROWS, _STRIP_SIZES, _PLANAR = 273, 274, 277, 278, 279, 284
_PREDICTOR, _COLOR_MAP, _TILE_WIDTH, _TILE_LENGTH, _TILE_POSITIONS, _TILE_SIZES = 317, 320, 322, 323, 324, 325
_INK_SET, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _SUBFILE = 332, 338, 339, 254
_PER_PLANE = (_STRIP_POSITIONS, _STRIP_SIZES, _TILE_POSITIONS, _TILE_SIZES)
_OF_PLANE = (_WIDTH, _LENGTH, _COMPRESSION, _FILL_ORDER, _ORIENTATION, _ROWS, _PREDICTOR, _TILE_WIDTH, _TILE_LENGTH)
_READ = frozenset((*_PER_PLANE, *_OF_PLANE, _BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLES, _PLANAR, _COLOR_MAP, _INK_SET))
_READ |= {_EXTRA_SAMPLES, _SAMPLE_FORMAT, _SUBFILE}


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """How the first page of a TIFF stores its pixels."""

    order: str  # byte order, for `struct`
    tags: Mapping[int, tuple[int, ...]]  # values by number, of those in `_READ`

    def value(self, tag: int, default: int) -> int:
        """Return the first value of a tag."""
        return self.tags.get(tag, (default,))[0]

    @property
    def photometric(self) -> int:
        """What the samples mean; -1 if unknown."""
        return self.value(_PHOTOMETRIC, -1)

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.value(_WIDTH, 0) * self.value(_LENGTH, 0)

    @property
    def bands(self) -> int:
        """Samples per pixel."""
        return self.value(_SAMPLES, 1)

    @property
    def bits(self) -> tuple[int, ...]:
        """Bits of each sample."""
        bits = self.tags.get(_BITS_PER_SAMPLE, (1,))
        return bits * self.bands if len(bits) == 1 else bits[: self.bands]

    @property
    def extra(self) -> tuple[int, ...]:
        """Kinds of the bands after the colors; a fourth of RGB that has none is taken for alpha."""
        is_rgba = self.photometric == RGB and self.bands == _COLORS[RGB] + 1
        return self.tags.get(_EXTRA_SAMPLES, (_ALPHA,) if is_rgba else ())

    @property
    def is_planar(self) -> bool:
        """Whether each band is stored separately."""
        return self.value(_PLANAR, 1) != 1

    @property
    def is_split(self) -> bool:
        """Whether the bands are decoded one by one, see `split`."""
        return self.is_planar or self.is_inverted

    @property
    def is_inverted(self) -> bool:
        """Whether 0 is white."""
        return self.photometric == WHITE_IS_ZERO

    @property
    def mode(self) -> str:
        """Pillow's mode of all bands that are read."""
        if self.photometric == RGB:
            return _ALPHA_MODES.get(self.extra[0], "RGB") if self.extra else "RGB"
        if self.photometric == GRAY and self.extra[:1] == (_ALPHA,):
            return "LA"
        return "CMYK" if self.photometric == CMYK else "L"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not read of the page."""
        ignored = self.extra.count(_IGNORED)
        bands = (f"first {self.bands - ignored} of {self.bands} bands",) if ignored else ()
        return (*bands, "first page is a thumbnail of another") if self.value(_SUBFILE, 0) & 1 else bands


def read_layout(content: bytes) -> TiffLayout | None:
    """Return the layout of a TIFF file; None if it is another file.

    Raises:
        ImageRejectedError: Images of this layout are not read; the message names what is unusual.
    """
    if not content.startswith(TIFF_MARKS):
        return None
    directories = Directories.open(content)
    tags = [tag for tag in directories.tags(directories.first) if tag.number in _READ and tag.values]
    found = {tag.number: directories.numbers(tag) for tag in tags}
    layout = TiffLayout(directories.order, found)
    is_cut = _PHOTOMETRIC not in found and (directories.is_cut or not found)
    if is_cut or any(directories.is_outside(tag) for tag in tags):
        raise ImageRejectedError(f"truncated: no tags in the {len(content):,} bytes of this TIFF: {COPY_AGAIN}")
    if content.startswith(_BIG_ENDIAN_BIG_TIFF):
        reason = "big-endian BigTIFF"
    elif not all(found.values()):
        reason = f"tag {next(number for number, values in found.items() if not values)} has no whole numbers"
    else:
        reason = _refusal(layout)
    if reason:
        raise ImageRejectedError(f"Unsupported TIFF: {reason}. {_ADVICE}")
    return layout


def _refusal(layout: TiffLayout) -> str:
    """Return why a layout is not read; empty if it is."""
    if layout.bands > _MAX_BANDS:
        return f"{layout.bands:,} bands"
    kinds, bits, compression = set(layout.tags.get(_SAMPLE_FORMAT, (1,))), layout.bits, layout.value(_COMPRESSION, 1)
    is_plain_gray = layout.photometric == GRAY and not layout.is_planar and layout.order == "<"
    if bits == (32,) and kinds <= {1, 2} and is_plain_gray:
        return ""  # the values are checked later
    if kinds != {1}:
        return f"{_SAMPLE_FORMATS.get(max(kinds), 'undefined')} samples"
    if layout.photometric < 0:
        return "no photometric interpretation (tag 262), which states whether 0 is black or white, or the colors"
    if layout.photometric not in _BITS:
        return _COLOR_NAMES.get(layout.photometric, f"photometric interpretation {layout.photometric}")
    if len(bits) != layout.bands or len(set(bits)) != 1:
        return f"{layout.bands} bands of {', '.join(map(str, bits))} bits"
    if layout.bands != _COLORS[layout.photometric] + len(layout.extra):
        return f"{layout.bands} bands, of which {_COLORS[layout.photometric] + len(layout.extra)} are described"
    if bits[0] not in (allowed := _BITS[layout.photometric].get(layout.extra, ())):
        return f"{bits[0]} bits per sample" if allowed else f"{layout.bands} bands (extra samples {layout.extra})"
    if compression not in _COMPRESSIONS:
        return f"compression {_COMPRESSION_NAMES.get(compression, compression)}"
    return _odd_combination(layout, bits[0], compression)


def _odd_combination(layout: TiffLayout, bits: int, compression: int) -> str:
    """Return which tags of a layout are not read together."""
    if compression in _FAX and bits != 1:
        return f"fax compression of {bits} bits"
    if compression in (_OLD_JPEG, _JPEG) and (bits != 8 or layout.is_split or layout.extra):
        return "JPEG compression with separate planes, other bands, or 0 as white"
    if layout.photometric == YCBCR and compression not in (_OLD_JPEG, _JPEG):
        return "YCbCr colors without JPEG compression"
    if compression == _OLD_JPEG and layout.photometric != YCBCR:
        return "old-style JPEG compression of other than YCbCr colors"
    if layout.is_planar and layout.photometric in (PALETTE, YCBCR):
        return "separate planes of palette or YCbCr colors"
    has_plain_bits = bits <= 8 and not layout.extra and layout.photometric in (WHITE_IS_ZERO, GRAY, RGB)
    if layout.value(_FILL_ORDER, 1) != 1 and not has_plain_bits:
        return f"fill order 2 of {layout.bands} bands of {bits} bits"
    if layout.photometric == CMYK and layout.value(_INK_SET, 1) != 1:
        return "inks other than CMYK"
    if layout.photometric == PALETTE and max(layout.tags.get(_COLOR_MAP, (256,))) < 256:
        return "a palette of 8-bit values"
    return ""


def split(content: bytes, layout: TiffLayout) -> Iterator[bytes]:
    """Yield each band that is read as a TIFF file of one gray band, in which 0 is black."""
    bands = layout.bands - layout.extra.count(_IGNORED)
    return (_one_band(content, layout, band) for band in range(bands))


def _one_band(content: bytes, layout: TiffLayout, band: int) -> bytes:
    tags: dict[int, Sequence[int]] = {number: layout.tags[number] for number in _OF_PLANE if number in layout.tags}
    for number in _PER_PLANE:
        if values := layout.tags.get(number):
            count = len(values) // layout.bands if layout.is_planar else len(values)
            tags[number] = values[count * band : count * (band + 1)]
    tags |= {_BITS_PER_SAMPLE: layout.bits[:1], _PHOTOMETRIC: (GRAY,), _SAMPLES: (1,)}
    return _with_directory(content, layout.order, tags)


def _with_directory(content: bytes, order: str, tags: Mapping[int, Sequence[int]]) -> bytes:
    """Return a TIFF file with another directory, whose values are 32-bit numbers; positions stay the same."""
    mark = b"MM" if order == ">" else b"II"
    first = len(content) + len(content) % 2
    after = first + 2 + 12 * len(tags) + 4
    entries = outside = b""
    for number, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *(min(value, _MAX_VALUE) for value in values))
        if len(values) != 1:
            packed, outside = struct.pack(f"{order}I", after + len(outside)), outside + packed
        entries += struct.pack(f"{order}HHI", number, 4, len(values)) + packed
    head = mark + struct.pack(f"{order}HI", 42, first)
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return head + content[len(head) :].ljust(first - len(head), b"\0") + directory + outside
