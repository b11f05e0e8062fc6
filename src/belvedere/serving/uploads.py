"""Images of a request: the files of a form, or the body itself."""

import re
import sys
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from belvedere.runtime.http.errors import HTTPError
from belvedere.runtime.terminal import count

FIELD = "files"  # documented name of the form field
FIELD_PATTERN = re.compile(r"(file|image)s?(\[\d*\])?")  # accepted names, also those of browsers and PHP
FORM = "multipart/form-data"
RAW = "application/octet-stream"
UTF_8 = (b"utf-8", b"utf8")


@dataclass(frozen=True, slots=True)
class Upload:
    """The images of a request: name and bytes of each, at least one."""

    images: list[tuple[str, bytes]]
    is_form: bool


class _FormParser(MultiPartParser):
    """Starlette's parser: files stay in memory (the body is limited), and the final boundary is noted."""

    spool_max_size = sys.maxsize
    is_complete = False

    def on_end(self) -> None:
        self.is_complete = True


async def read_upload(request: Request, max_files: int) -> Upload:
    """Read the images of a request.

    Args:
        request: Request, whose body is limited by the middleware.
        max_files: Maximum number of files in a form.

    Returns:
        At least one image.

    Raises:
        HTTPError: The body is malformed or empty, has another content type, or holds too many files.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    check_encoding(request)
    if content_type == FORM:
        images = await _read_form(request, max_files)
        if not images:
            raise HTTPError(422, f"The form holds no files. Send some in the field {FIELD!r}.", "no_files")
        return Upload(images, is_form=True)
    if content_type != RAW and not content_type.startswith("image/"):
        raise HTTPError(
            415,
            f"Content type not supported: {content_type[:100] or 'none'}. Send a form ({FORM}, field {FIELD!r}) or the "
            f"bytes of an image (image/* or {RAW}).",
        )
    body = await request.body()
    if not body:
        raise HTTPError(422, "The request has no body. Send the bytes of an image.", "no_files")
    return Upload([("image", body)], is_form=False)


def check_encoding(request: Request) -> None:
    """Check that the body of a request is not compressed.

    Raises:
        HTTPError: It is.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPError(415, "The body is compressed. Send it without Content-Encoding.")


def _check_charset(content_type: str) -> None:
    """Check the charset, in which the parser decodes all texts: some take minutes, and block the event loop."""
    charset = parse_options_header(content_type)[1].get(b"charset", UTF_8[0])
    if charset.lower() not in UTF_8:
        received = charset[:100].decode("latin-1")
        message = f"The form has the charset {received!r}. Leave it out, and send names in UTF-8."
        raise HTTPError(400, message, "malformed_form")


async def _read_form(request: Request, max_files: int) -> list[tuple[str, bytes]]:
    _check_charset(request.headers["content-type"])
    # Fields without a chosen file count too, hence twice the number of files.
    parser = _FormParser(request.headers, request.stream(), max_files=2 * max_files)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise _too_many_files(max_files) from None
        raise HTTPError(400, f"The form is malformed: {error.message}", "malformed_form") from None
    if not parser.is_complete:
        raise HTTPError(400, "The form ends before its last boundary.", "malformed_form")
    images: list[tuple[str, bytes]] = []
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile) or not FIELD_PATTERN.fullmatch(name):
            suffix = "" if isinstance(value, UploadFile) else ", which is not a file"
            raise HTTPError(
                422,
                f"Unknown form field: {name!r}{suffix}. Send files in the field {FIELD!r}, file, image or images.",
                "unknown_field",
            )
        if value.filename or value.size:
            images.append((value.filename or f"image {len(images) + 1}", await value.read()))
        await value.close()
    if len(images) > max_files:
        raise _too_many_files(max_files)
    return images


def _too_many_files(max_files: int) -> HTTPError:
    message = f"A request may hold {count(max_files, 'file')}. Send the others in another request."
    return HTTPError(413, message, "too_many_files")
