"""Uploads a folder that `export` wrote in the format "hub" to the Hugging Face Hub."""

from dataclasses import dataclass
from pathlib import Path

from belvedere.errors import UsageError
from belvedere.inference.hub_folder import CARD_NAME, CARD_REPOSITORY, FILES
from belvedere.inference.model import load_model
from belvedere.inference.model_paths import MODEL_NAME
from belvedere.runtime.hub import check_repository, upload
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.runtime.terminal import count, describe_error


@dataclass(frozen=True, slots=True)
class Push:
    """An upload to the Hugging Face Hub."""

    repository: str  # "user/name"
    url: str | None  # of its page; None: nothing was uploaded
    files: tuple[tuple[str, int], ...]  # name and bytes of each file


def push(
    folder: Path | str,
    repository: str,
    *,
    private: bool = False,
    message: str = "Upload a model of Belvedere",
    dry_run: bool = False,
    progress: Progress | bool | None = None,
) -> Push:
    """Upload a model to the Hugging Face Hub, in one commit.

    All files of its folder are uploaded, but for hidden ones. Links, and files that `export` does not write, are
    refused: they may hold what is not meant to be public. The repository is made if there is none. Files in it that the
    folder does not have stay. The token is that of HF_TOKEN, or of `hf auth login`.

    Args:
        folder: Folder that `export` wrote in the format "hub".
        repository: Name on the Hub, "user/name", which is also put into the examples of README.md.
        private: Whether only its owner may see the repository.
        message: Message of the commit.
        dry_run: Whether to upload nothing, and only return the files.
        progress: Progress display. Default: on a terminal and in a notebook; False: none.

    Returns:
        The files, and the address of the repository.

    Raises:
        UsageError: It is not such a folder, it has other files, or the name is invalid.
        InvalidModelError: The model in it cannot be opened.
        HubError: The Hub refuses the files, or cannot be reached.
        MissingDependencyError: huggingface_hub is not installed.
    """
    folder, progress = Path(folder), choose_progress(progress)
    check_repository(repository)
    files = _list_files(folder)
    load_model(folder / MODEL_NAME)  # raises for a damaged one
    try:
        text = files[CARD_NAME].read_text(encoding="utf-8").replace(CARD_REPOSITORY, repository)
        sizes = {name: file.stat().st_size for name, file in files.items()}
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot read {folder}: {describe_error(error)}. Export the model again.") from error
    card = text.encode()
    listed = tuple((sizes | {CARD_NAME: len(card)}).items())
    if dry_run:
        return Push(repository, None, listed)
    size = sum(size for _, size in listed)
    progress.log(f"Uploading {count(len(listed), 'file')}, {size / 1e6:.1f} MB, to {repository}.")
    return Push(repository, upload(repository, files | {CARD_NAME: card}, private=private, message=message), listed)


def _list_files(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by their names in the repository.

    Raises:
        UsageError: The folder is not one for the Hub.
    """
    hint = "Give a folder that export wrote in the format hub"
    missing = [name for name in (CARD_NAME, MODEL_NAME, f"onnx/{MODEL_NAME}") if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"{folder} has no {missing[0]}. {hint}.")
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")) or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink() or name not in FILES:
            reason = "is a link" if path.is_symlink() else "is no file that export writes"
            raise UsageError(f"{path} {reason}, and may hold what is not meant to be public. Move it elsewhere.")
        files[name] = path
    return files
