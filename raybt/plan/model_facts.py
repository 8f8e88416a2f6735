"""What planning needs to know of a model, without loading it: fingerprint, depth, context, tokenizer."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import PreTrainedTokenizerFast

from raybt.config import SHIPPED, Model
from raybt.errors import UserError
from raybt.plan.fingerprint import fingerprint

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)


@dataclass(frozen=True)
class ModelFacts:
    """A model, resolved.

    Args:
        path: absolute local folder, or hub id.
        revision: commit of a hub model, None for a local one.
        fingerprint: what stands for the model in a row's key.
        n_layers, n_heads: blocks, and attention heads in each, numbered from 0.
        context_length: most tokens of prompt and completion together.
    """

    path: str
    revision: str | None
    fingerprint: str
    n_layers: int
    n_heads: int
    context_length: int
    tokenizer: PreTrainedTokenizerFast


def resolve_model(model: Model) -> ModelFacts:
    """Find a model and read its config and tokenizer; weights are read only to hash local ones.

    Raises:
        UserError: there is no such model, it lacks a file, or its config does not tell depth and context.
    """
    folder = local_folder(model.name)
    return _local(folder) if folder else _hub(model)


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
        raise UserError("model.name is a folder that exists, or a hub id such as org/name", name, "check the path")
    return None


def _local(folder: Path) -> ModelFacts:
    mark = fingerprint(folder)
    settings = _read_settings(folder / "config.json")
    return ModelFacts(str(folder), None, mark, *_size(settings, str(folder)), load_tokenizer(str(folder)))


def _hub(model: Model) -> ModelFacts:
    commit, offline = _commit(model)
    try:
        path = hf_hub_download(model.name, "config.json", revision=commit, local_files_only=offline)
    except OSError as error:
        raise _unavailable(model.name, error) from None
    settings = _read_settings(Path(path))
    tokenizer = load_tokenizer(model.name, commit, offline)
    return ModelFacts(model.name, commit, f"hub:{model.name}@{commit}", *_size(settings, model.name), tokenizer)


def load_tokenizer(path: str, revision: str | None = None, offline: bool = False) -> PreTrainedTokenizerFast:
    """The tokenizer of `ModelFacts.path` and `.revision`, the one whose ids stand in prompts and completions.

    Raises:
        UserError: the model has no fast tokenizer (tokenizer.json).
    """
    try:
        return PreTrainedTokenizerFast.from_pretrained(path, revision=revision or "main", local_files_only=offline)
    except (OSError, ValueError, TypeError) as error:
        why = str(error).strip().splitlines()[0]
        raise UserError("a model needs a fast tokenizer", f"{path} ({why})", "add its tokenizer.json") from None


def _commit(model: Model) -> tuple[str, bool]:
    """(commit, whether only the local cache was there to ask)."""
    try:
        commit = HfApi().model_info(model.name, revision=model.revision, timeout=20).sha
        assert commit, "the hub names a commit for every revision"
        return commit, False
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
        return commit, True


def _cached_commit(model: Model) -> str | None:
    found = try_to_load_from_cache(model.name, "config.json", revision=model.revision or "main")
    return Path(found).parent.name if isinstance(found, str) else None


def _unavailable(name: str, error: Exception) -> UserError:
    why = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(
        "model.name is a folder that exists, or a hub model within reach or in the local cache",
        f"{name} ({why})",
        "connect, run `hf download` where there is a network, or set model.name to a local folder",
    )


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError("a model's config.json must be JSON", f"{path}: {error}", "mend or fetch it again") from None
    nested = settings.get("text_config")  # models that also see or hear keep the language model's settings here
    return {**settings, **nested} if isinstance(nested, dict) else settings


def _size(settings: dict[str, Any], name: str) -> tuple[int, int, int]:
    """(layers, heads, context length)."""
    return (
        _first(settings, ("num_hidden_layers", "n_layer"), name),
        _first(settings, ("num_attention_heads", "n_head"), name),
        _first(settings, ("max_position_embeddings", "n_positions"), name),
    )


def _first(settings: dict[str, Any], keys: tuple[str, ...], name: str) -> int:
    for key in keys:
        if isinstance(settings.get(key), int):
            return settings[key]
    raise UserError(
        f"a model's config.json gives {' or '.join(keys)}", f"neither for {name}", "use a decoder-only model"
    )
