"""Where a model's files are: a local folder, or a hub repository at a commit."""

import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from raybt.config import SHIPPED, Model
from raybt.errors import UserError, first_line

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)


@dataclass(frozen=True)
class ModelFiles:
    """A model's files.

    Args:
        path: absolute local folder, or hub id.
        folder: the local folder, None for a hub model.
        revision: commit of a hub model, None for a local one.
        names: the files there, not those in folders below; None where only the hub's local cache could be asked.
    """

    path: str
    folder: Path | None
    revision: str | None
    names: frozenset[str] | None

    @property
    def offline(self) -> bool:
        return self.names is None

    def file(self, name: str) -> Path:
        """A file that the model has.

        Raises:
            UserError: it cannot be had from the hub.
        """
        if self.folder:
            return self.folder / name
        try:
            return Path(hf_hub_download(self.path, name, revision=self.revision, local_files_only=self.offline))
        except OSError as error:
            raise _unavailable(self.path, error) from None

    def optional(self, name: str) -> Path | None:
        """A file that the model may have; offline, one that the cache holds."""
        if self.names is not None:
            return self.file(name) if name in self.names else None
        found = try_to_load_from_cache(self.path, name, revision=self.revision)
        return Path(found) if isinstance(found, str) else None


def find_files(model: Model) -> ModelFiles:
    """The files of the model that a config names.

    Raises:
        UserError: there is no such folder and no such hub model within reach.
    """
    folder = local_folder(model.name)
    return folder_files(folder) if folder else _hub_files(model)


def folder_files(folder: Path) -> ModelFiles:
    names = frozenset(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else frozenset()
    return ModelFiles(str(folder), folder, None, names)


def local_folder(name: str) -> Path | None:
    """The folder that a model name means, or None for a hub id.

    Raises:
        UserError: the name can only be a folder, and there is none.
    """
    if name == SHIPPED:
        from raybt.toy import MODEL_DIR

        return Path(MODEL_DIR)
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.exists() or not _HUB_ID.fullmatch(name):
        fix = "give the folder that holds the file" if path.is_file() else "check the path"
        raise UserError("model.name is a folder that exists, or a hub id such as org/name", name, fix)
    return None


def _hub_files(model: Model) -> ModelFiles:
    try:
        info = HfApi().model_info(model.name, revision=model.revision, timeout=20)
    except GatedRepoError:
        fix = "accept its licence on the hub, and set HF_TOKEN or run `hf auth login`"
        raise UserError("model.name must be a model that you may read", f"{model.name}, which is gated", fix) from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        asked = f"{model.name}@{model.revision}" if model.revision else model.name
        fix = "check model.name and model.revision; a private model needs HF_TOKEN"
        raise UserError("model.name is a folder that exists, or a model on the hub", asked, fix) from None
    except Exception as error:  # no network, in whatever words the hub client's HTTP library of the day has for it
        commit = _cached_commit(model)
        if commit is None:
            raise _unavailable(model.name, error) from None
        return ModelFiles(model.name, None, commit, None)
    assert info.sha and info.siblings is not None, "the hub names a commit and its files for every revision"
    names = frozenset(one.rfilename for one in info.siblings if "/" not in one.rfilename)
    return ModelFiles(model.name, None, info.sha, names)


def _cached_commit(model: Model) -> str | None:
    found = try_to_load_from_cache(model.name, "config.json", revision=model.revision or "main")
    return Path(found).parent.name if isinstance(found, str) else None


def _unavailable(name: str, error: Exception) -> UserError:
    return UserError(
        "model.name is a folder that exists, or a hub model within reach or in the local cache",
        f"{name} ({first_line(error)})",
        "connect, run `hf download` where there is a network, or set model.name to a local folder",
    )
