"""What planning needs to know of a model, without loading it: fingerprint, depth, context, tokenizer."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from raybt.config import Model
from raybt.errors import UserError, first_line
from raybt.plan.fingerprint import fingerprint
from raybt.plan.model_files import ModelFiles, find_files, folder_files
from raybt.plan.model_settings import (
    check_settings,
    language_settings,
    read_settings,
    size,
    switch_of,
    vocabulary,
)
from raybt.plan.weights import check_listing, check_weights

_SLOW_TOKENIZERS = ("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt")
_FAST = "a model needs a fast tokenizer (tokenizer.json)"


@dataclass(frozen=True)
class ModelFacts:
    """A model, resolved.

    Args:
        path: absolute local folder, or hub id.
        revision: commit of a hub model, None for a local one.
        fingerprint: what stands for the model in a row's key.
        n_layers, n_heads: blocks, and attention heads in each, numbered from 0.
        context_length: most tokens of prompt and completion together; no more than `switch`.
        switch: the most tokens of a row before it and its neighbours disturb each other, None where they never do.
        vocab_size: rows of the embedding table, None if config.json does not tell.
        settings: the language model's part of config.json.
    """

    path: str
    revision: str | None
    fingerprint: str
    n_layers: int
    n_heads: int
    context_length: int
    tokenizer: PreTrainedTokenizerFast
    switch: int | None = None
    vocab_size: int | None = None
    settings: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


def resolve_model(model: Model) -> ModelFacts:
    """Find a model and read its config and tokenizer; weights are read only to hash local ones, after all checks.

    Raises:
        UserError: there is no such model, it lacks a file, or it is not one that raybt can load here.
    """
    files = find_files(model)
    check_listing(files)
    whole = read_settings(files.file("config.json"))
    check_settings(whole, model)
    check_weights(files, whole)
    settings = language_settings(whole)
    layers, heads, context = size(settings, files.path)
    tokenizer = load_tokenizer(files.path, files.revision, files.offline, files.names or ())
    _check_end(files, settings)
    switch = switch_of(settings)
    return ModelFacts(
        path=files.path,
        revision=files.revision,
        fingerprint=fingerprint(files.folder) if files.folder else f"hub:{files.path}@{files.revision}",
        n_layers=layers,
        n_heads=heads,
        context_length=min(context, switch or context),
        tokenizer=tokenizer,
        switch=switch,
        vocab_size=vocabulary(settings),
        settings=settings,
    )


def load_tokenizer(
    path: str, revision: str | None = None, offline: bool = False, names: Collection[str] = ()
) -> PreTrainedTokenizerFast:
    """The tokenizer of `ModelFacts.path` and `.revision`, the one whose ids stand in prompts and completions.

    Args:
        names: a hub model's files, for an error to say what is there instead.

    Raises:
        UserError: the model has no fast tokenizer (tokenizer.json).
    """
    folder = Path(path)
    there = (folder_files(folder).names if folder.is_dir() else names) or ()
    slow = [name for name in _SLOW_TOKENIZERS if name in there]
    # converters would make one of some files, if they are installed: then tokens would depend on what is
    if slow and not any(name.startswith("tokenizer.") and name.endswith(".json") for name in there):
        raise _slow_tokenizer(path, slow)
    try:
        return PreTrainedTokenizerFast.from_pretrained(path, revision=revision or "main", local_files_only=offline)
    except (OSError, ValueError, TypeError) as error:
        fix = "fetch its tokenizer.json, or that of the model that it is made of"
        raise UserError(_FAST, f"{path} ({first_line(error)})", fix) from None


def _slow_tokenizer(path: str, slow: list[str]) -> UserError:
    first = "pip install sentencepiece, then " if slow[0].endswith(".model") else ""
    local = Path(path).is_dir()
    folder = path if local else "folder"
    then = "" if local else ", where folder is a download of the model, and set model.name to it"
    return UserError(
        _FAST,
        f"{path} with {' and '.join(slow)} alone",
        f'{first}in Python: AutoTokenizer.from_pretrained("{folder}").save_pretrained("{folder}"){then}',
    )


def _check_end(files: ModelFiles, settings: dict[str, Any]) -> None:
    """A token without an embedding has no logit either: a model that ends by such a token alone never ends."""
    own = files.optional("generation_config.json")
    asked = read_settings(own).get("eos_token_id") if own else None
    ids = settings.get("eos_token_id") if asked is None else asked
    ids, rows = ids if isinstance(ids, list) else [ids], vocabulary(settings)
    if rows and all(isinstance(one, int) and one >= rows for one in ids) and ids:
        raise UserError(
            f"the token that ends a text must be one that the model has an embedding for, below {rows}",
            f"{files.path} with eos_token_id {', '.join(map(str, ids))}",
            "correct eos_token_id in its generation_config.json and config.json",
        )
