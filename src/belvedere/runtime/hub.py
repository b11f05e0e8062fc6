"""Files of the Hugging Face Hub: addresses as hf://user/name@revision, downloads into its cache, and uploads.

huggingface_hub reads HF_TOKEN or the login, HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE. It is imported when it is used.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from belvedere.errors import HubError, UsageError
from belvedere.runtime.dependencies import require
from belvedere.runtime.progress import Progress, Task
from belvedere.runtime.terminal import describe_error

if TYPE_CHECKING:
    from huggingface_hub.utils.tqdm import tqdm

SCHEME = "hf:/"  # of an address: pathlib makes one slash of two
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
REVISION = re.compile(r"(?!.*\.\.)[\w-][\w.-]*(?:/[\w-][\w.-]*)*")  # also a path in the cache
ADDRESS = re.compile(rf"hf:/{{1,2}}({REPOSITORY.pattern})(?:@({REVISION.pattern}))?")
COMMIT = re.compile(r"[0-9a-f]{40}")
ETAG = re.compile(r'(?:W/)?"?[0-9A-Za-z_-]{1,128}"?')
SNAPSHOT = re.compile(r"/models--([\w.-]+?)--([\w.-]+)/snapshots/(\w{40})(?:/|$)")  # in the cache
KILO = 1000
MAX_DIGITS = 30  # of a size
HOOKS_LOCK = threading.Lock()
OTHER_SERVER = "Set HF_ENDPOINT to another server, or unset it"
LOGIN_HINT = "Set HF_TOKEN, or log in with: hf auth login"
REASONS = {  # by the status of the response
    401: f"the token is missing or invalid. {LOGIN_HINT}",
    403: "the token does not permit it. Take one with write access to the repository, or another name",
    404: "there is no such repository, or it is private and the token does not open it. Check the name and HF_TOKEN",
}


@dataclass(frozen=True, slots=True)
class HubAddress:
    """A repository of models on the Hub."""

    repository: str  # "user/name"
    revision: str | None = None  # branch, tag or commit; None: main

    def __str__(self) -> str:
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision else "")


def is_hub_address(path: Path | str) -> bool:
    """Return whether a path is an address of the Hub."""
    return PurePath(path).as_posix().startswith(SCHEME)


def parse_address(path: Path | str) -> HubAddress:
    """Parse an address as hf://user/name@revision.

    Raises:
        UsageError: It is invalid.
    """
    found = ADDRESS.fullmatch(PurePath(path).as_posix())
    if found is None:
        raise UsageError(f"An address on the Hugging Face Hub must be hf://user/name[@revision]. Received: {path}.")
    return HubAddress(*found.groups())


def check_repository(name: str) -> None:
    """Check the name of a repository.

    Raises:
        UsageError: It is not user/name.
    """
    if not REPOSITORY.fullmatch(name):
        raise UsageError(f"`repository` must be user/name on the Hugging Face Hub. Received: {name!r}.")


def snapshot_address(path: Path | str) -> str:
    """Return the address, with its commit, of a file or folder in the cache of the Hub; empty for other paths."""
    found = SNAPSHOT.search(PurePath(path).as_posix())
    return f"hf://{found[1]}/{found[2]}@{found[3]}" if found else ""


def download(
    address: HubAddress,
    files: Sequence[str],
    progress: Progress,
    *,
    max_bytes: int,
    optional: Sequence[str] = (),
    offline: bool = False,
) -> Path:
    """Return the folder in the Hugging Face cache that holds files of a repository; download what is not there.

    Args:
        address: The repository.
        files: Names of the files.
        progress: Shows the downloads.
        max_bytes: Size above which a file is not downloaded.
        optional: Names of files that the repository may lack.
        offline: Whether to use the cache only.

    Raises:
        HubError: A file cannot be obtained.
        MissingDependencyError: huggingface_hub is not installed.
    """
    require("hub", f"Opening {address}", ["huggingface_hub"])
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    name, folder, revision = address.repository, Path(), address.revision
    for file in (*files, *optional):
        with (
            _explained(f"{file} of {address} cannot be downloaded", offline),
            _checked_responses(max_bytes) as is_checked,
        ):
            try:
                size = 0
                if not offline and not isinstance(try_to_load_from_cache(name, file, revision=revision), str):
                    found = get_hf_file_metadata(hf_hub_url(name, file, revision=revision))
                    size = found.size or 0  # the request fails at once if the Hub cannot be reached
                with progress.task(f"Downloading {file} of {address}", size // KILO, "kB") as task:
                    options: dict[str, Any] = {"revision": revision, "local_files_only": offline}
                    path = Path(
                        hf_hub_download(name, file, tqdm_class=_download_bar(task, max_bytes, is_checked), **options)
                    )
                _check_place(path)
            except EntryNotFoundError as error:
                if file in files or isinstance(error, LocalEntryNotFoundError):
                    raise
                continue
        folder = path.parents[len(PurePath(file).parts) - 1]
        revision = folder.name  # all files of one commit
    return folder


def upload(repository: str, files: Mapping[str, Path | bytes], *, private: bool, message: str) -> str:
    """Upload files to a repository in one commit, and make the repository if there is none.

    Args:
        repository: "user/name".
        files: Files by their names in the repository.
        private: Whether only its owner may see the repository.
        message: Message of the commit.

    Returns:
        The web address of the repository.

    Raises:
        HubError: The Hub refuses them, or cannot be reached; or the repository is public where it should be private.
        MissingDependencyError: huggingface_hub is not installed.
    """
    require("hub", "Uploading to the Hugging Face Hub", ["huggingface_hub"])
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    with _explained(f"The model cannot be uploaded to {repository}"), _no_bars():
        if get_token() is None:
            raise HubError(f"The model cannot be uploaded to {repository}: there is no token. {LOGIN_HINT}.")
        api = HfApi(library_name="belvedere")
        address = api.create_repo(repository, private=private or None, exist_ok=True)
        if private and not api.model_info(repository).private:
            raise HubError(
                f"{repository} exists and is public, so nothing was uploaded. Make it private on its page, or give "
                "another `repository`."
            )
        additions = [CommitOperationAdd(name, content) for name, content in files.items()]
        api.create_commit(repository, additions, commit_message=message)
    return _without_userinfo(str(address))


class _RefusedError(Exception):
    """The Hub, or a mirror, sent something that is not used."""


@contextmanager
def _checked_responses(max_bytes: int) -> Iterator[Callable[[], bool]]:
    """Check every response that huggingface_hub gets in this thread.

    It joins the headers that name a commit and a blob to the path of its cache, unchecked, and sends a request of its
    own for each file: a check of another response would not be enough.
    """
    from huggingface_hub import get_session

    client, thread = get_session(), threading.get_ident()

    def check(response: Any) -> None:
        if threading.get_ident() == thread:
            _check_response(response, max_bytes)

    _change_hooks(client, lambda hooks: [*hooks, check])
    try:
        yield lambda: get_session() is client  # a retry after a refused connection has a new client
    finally:
        _change_hooks(client, lambda hooks: [each for each in hooks if each is not check])


def _change_hooks(client: Any, change: Callable[[list[Any]], list[Any]]) -> None:
    """Replace the list of response hooks, which requests of other threads may be reading."""
    with HOOKS_LOCK:
        client.event_hooks["response"] = change(client.event_hooks["response"])


def _check_response(response: Any, max_bytes: int) -> None:
    if response.request.method != "HEAD":  # the others are not asked for metadata
        return
    headers = response.headers
    commit, etag = headers.get("X-Repo-Commit"), headers.get("X-Linked-Etag") or headers.get("ETag")
    if commit is not None and not COMMIT.fullmatch(commit):
        raise _RefusedError(f"the commit of the response is invalid: {commit[:100]!r}. {OTHER_SERVER}")
    if etag is not None and response.status_code < 400 and not ETAG.fullmatch(etag):
        raise _RefusedError(f"the ETag of the response is invalid: {etag[:100]!r}. {OTHER_SERVER}")
    size = headers.get("X-Linked-Size") or ("" if response.is_redirect else headers.get("Content-Length", ""))
    if size.isdecimal() and int(size[:MAX_DIGITS]) > max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> _RefusedError:
    return _RefusedError(f"it has more than {max_bytes:,} bytes. Give a smaller one")


def _check_place(path: Path) -> None:
    """Check that a downloaded file, which is a link, lies in the cache, or in the folder of its repository."""
    from huggingface_hub.constants import HF_HUB_CACHE

    repository = next(parent for parent in path.parents if parent.name.startswith("models--"))
    if not any(path.resolve().is_relative_to(root.resolve()) for root in (Path(HF_HUB_CACHE), repository)):
        raise _RefusedError(f"{path} is a link to another folder. Delete it")


def _without_userinfo(text: str) -> str:
    """Return a text without the names and passwords in its URLs, such as those of HF_ENDPOINT."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


def _download_bar(task: Task, max_bytes: int, is_checked: Callable[[], bool]) -> "type[tqdm]":
    """Return a class of progress bars for huggingface_hub, which draws nothing and reports to a task, in kB.

    It is made before the first byte is written, and ends a download that is too large, or whose metadata were not
    checked.
    """
    from huggingface_hub.utils.tqdm import tqdm

    class DownloadBar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            if not is_checked():
                raise _RefusedError("the connection was interrupted. Try again")
            initialize: Any = super().__init__  # untyped
            initialize(*args, **options | {"disable": True})
            self._done = 0.0

        def update(self, n: float | None = 1) -> None:
            before, self._done = self._done, self._done + (n or 0)
            if self._done > max_bytes:
                raise _too_large(max_bytes)
            task.advance(int(self._done) // KILO - int(before) // KILO)

        def update_transfer(self, n: float) -> None:
            """Ignore transferred bytes: `update` gets the bytes of the file."""

    return DownloadBar


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep huggingface_hub from drawing progress bars."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            enable_progress_bars()


@contextmanager
def _explained(what: str, offline: bool = False) -> Iterator[None]:
    """Turn errors of huggingface_hub, of its HTTP client and of the system into a HubError in one line."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except HubError:
        raise
    except Exception as raised:
        error = raised
        if isinstance(raised, LocalEntryNotFoundError) and isinstance(raised.__cause__, Exception):
            error = raised.__cause__  # why the Hub was not reached
        offline = offline or isinstance(error, OfflineModeIsEnabled)
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, _RefusedError):
            reason = str(error)
        elif isinstance(raised, LocalEntryNotFoundError | OfflineModeIsEnabled) and offline:
            reason = "downloads are off, and it is not in the cache. Unset HF_HUB_OFFLINE, or `offline`"
        elif isinstance(error, GatedRepoError):
            reason = f"the repository is gated. Accept its terms on its page. {LOGIN_HINT}"
        elif isinstance(error, RepositoryNotFoundError):
            reason = REASONS[404]
        elif isinstance(error, RevisionNotFoundError):
            reason = "there is no such revision. Give a branch, a tag or a commit"
        elif isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            reason = "the repository has no such file. Give one to which a run was pushed"
        else:
            text = getattr(error, "strerror", None) or str(error) or type(error).__name__
            found = describe_error(ValueError(_without_userinfo(text))).rstrip(".")
            reason = REASONS.get(status or 0) or f"{found}. Try again, or set HF_ENDPOINT to a mirror"
        raise HubError(f"{what}: {reason}.") from raised
