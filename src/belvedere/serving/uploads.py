"""A request's body taken apart into pictures.

Knows content types and forms; does not decode a picture.
"""

import asyncio
import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from belvedere.runtime.http.errors import Refused

FIELD = "files"  # of a form, as the documentation names it
FIELDS = re.compile(r"(file|image)s?(\[\d*\])?")  # as browsers, PHP and others name it
STARRED = re.compile(rb";\s*filename\*\s*=\s*([\w-]+)'[^']*'([^;\s]*)", re.IGNORECASE)  # RFC 8187
QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
FORM = "multipart/form-data"
RAW = "application/octet-stream"
IN_A_THREAD = 500_000  # bytes; a larger form would hold up other requests while it is taken apart

Picture = tuple[str, bytes]  # its name and content


@dataclass(frozen=True, slots=True)
class Upload:
    """The pictures of a request."""

    pictures: list[Picture]
    is_form: bool


@dataclass(slots=True)
class _Form:
    """What a parser has found so far."""

    max_files: int
    pictures: list[Picture] = field(default_factory=list)
    header: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    disposition: bytes = b""
    name: str = ""
    content: bytearray = field(default_factory=bytearray)
    is_whole: bool = False

    def begin_part(self) -> None:
        self.disposition = b""
        self.content = bytearray()

    def add_header(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]

    def add_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def end_header(self) -> None:
        if self.header.lower() == b"content-disposition":
            self.disposition = bytes(self.value)
        self.header.clear()
        self.value.clear()

    def begin_content(self) -> None:
        _, options = parse_options_header(self.disposition)
        given = options.get(b"name", b"").decode(errors="replace")
        name = _find_name(self.disposition, options.get(b"filename"))
        if name is None or not FIELDS.fullmatch(given):
            what = f"the field {given!r}" if name is not None else f"the field {given!r}, which is no file"
            raise Refused(
                422, f"Expected files in the field {FIELD!r}, file, image or images. Received {what}.", "unknown_field"
            )
        self.name = name

    def add_content(self, data: bytes, start: int, end: int) -> None:
        self.content += data[start:end]

    def end_part(self) -> None:
        if not self.name and not self.content:
            return  # a field of a page's form for which no file was chosen
        if len(self.pictures) == self.max_files:
            raise Refused(
                413, f"A request may hold {self.max_files} files. Send the others in another.", "too_many_files"
            )
        self.pictures.append((self.name or f"picture {len(self.pictures) + 1}", bytes(self.content)))

    def end(self) -> None:
        self.is_whole = True


async def read_pictures(request: Request, max_files: int) -> Upload:
    """Reads the pictures of a request: a form's files, or the body as one.

    Args:
        request: Its body is read here, within the limits of the gate.
        max_files: More in one form are refused.

    Returns:
        At least one picture.

    Raises:
        Refused: The body is of another type, is damaged, empty, or holds too many files.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    media = kind.decode("latin-1").lower()
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "The body is compressed. Send it as it is: pictures are compressed already.")
    if media != FORM and media != RAW and not media.startswith("image/"):
        raise Refused(
            415,
            f"Expected a form ({FORM}, field {FIELD!r}) or a picture's bytes (image/* or {RAW}). "
            f"Received: {media[:100] or 'no Content-Type'}.",
        )
    body = await request.body()
    if media != FORM:
        if not body:
            raise Refused(422, "The request has no body. Send a picture's bytes.", "no_pictures")
        return Upload([("picture", body)], is_form=False)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise Refused(400, "The form's Content-Type names no boundary.", "damaged_form")
    if len(body) > IN_A_THREAD:
        pictures = await asyncio.to_thread(_read_form, body, boundary, max_files)
    else:
        pictures = _read_form(body, boundary, max_files)
    if not pictures:
        raise Refused(422, f"The form holds no files. Send some in the field {FIELD!r}.", "no_pictures")
    return Upload(pictures, is_form=True)


def _read_form(body: bytes, boundary: bytes, max_files: int) -> list[Picture]:
    form = _Form(max_files)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": form.begin_part,
                "on_header_field": form.add_header,
                "on_header_value": form.add_value,
                "on_header_end": form.end_header,
                "on_headers_finished": form.begin_content,
                "on_part_data": form.add_content,
                "on_part_end": form.end_part,
                "on_end": form.end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refused(400, f"The form is damaged: {error}", "damaged_form") from None
    if not form.is_whole:
        raise Refused(400, "The form ends before its last boundary.", "damaged_form")
    return form.pictures


def _find_name(disposition: bytes, plain: bytes | None) -> str | None:
    """Returns a file's name, as it was sent with its character set or plainly; None where the part is no file."""
    starred = STARRED.search(QUOTED.sub(b'""', disposition))
    if starred is not None:
        character_set, name = (each.decode("latin-1") for each in starred.groups())
        try:
            return unquote(name, encoding=character_set, errors="replace")
        except (LookupError, UnicodeError):
            return name  # of a character set that there isn't
    return None if plain is None else plain.decode(errors="replace")
