"""Whether a model's weight files are there, whole, and of a kind that transformers loads; no weight is read."""

import json
import struct
from collections.abc import Set
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from raybt.errors import UserError
from raybt.plan import known
from raybt.plan.model_files import ModelFiles

CONFIG, ADAPTER = "config.json", "adapter_config.json"
ENTRIES = (  # in the order in which transformers looks for them
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_POINTER = b"version https://git-lfs"


def check_listing(files: ModelFiles) -> None:
    """What the names of a model's files already tell.

    Raises:
        UserError: they are an adapter's, GGUF's, or lack config or weights.
    """
    if files.names is None:
        return
    names = files.names
    whole = CONFIG in names and _weights(names)
    # beside whole weights peft applies an adapter, unseen by the fingerprint; without peft it is a file like another
    if ADAPTER in names and (not whole or find_spec("peft")):
        raise _adapter(files)
    gguf = sorted(name for name in names if name.endswith(".gguf"))
    if gguf and not _weights(names):
        raise _gguf(files, gguf[0])
    if CONFIG not in names:
        raise UserError("a model holds a config.json", f"none in {files.path}", "check model.name, or give a hub id")
    if not _weights(names):
        raise UserError(
            "a model holds weights (*.safetensors or pytorch_model*.bin)",
            f"none in {files.path}",
            "download or copy the weights into it",
        )


def check_weights(files: ModelFiles, settings: dict[str, Any]) -> None:
    """transformers must find the weights; in a folder, every file that it will read must be there and whole.

    Raises:
        UserError: it will not, or one is not.
    """
    entry = settings.get("transformers_weights") or next((e for e in ENTRIES if e in (files.names or ())), None)
    if entry is None and files.names is not None:
        raise UserError(
            f"a model's weights are in {ENTRIES[0]}, or in files that {ENTRIES[1]} names",
            f"neither in {files.path}, which has {min(_weights(files.names))}",
            "fetch the index too, or save the model again with transformers' save_pretrained",
        )
    if files.folder and entry:
        for path in _parts(files.folder, entry):
            _check_file(path)


def weight_files(folder: Path) -> list[Path]:
    """Every weight file of a folder that transformers may load; pickles only where there is nothing better."""
    return list(folder.glob("*.safetensors")) or list(folder.glob("pytorch_model*.bin"))


def _weights(names: frozenset[str]) -> Set[str]:
    """Names of weights, or of an index that should have some beside it; an adapter's are none."""
    safe = {name for name in names if name.endswith(".safetensors") and not name.startswith("adapter_")}
    pickles = {name for name in names if name.startswith("pytorch_model") and name.endswith(".bin")}
    return safe or pickles or names.intersection(ENTRIES)


def _parts(folder: Path, entry: str) -> list[Path]:
    """The files that an entry stands for: itself, or those that it names."""
    named = _named(folder / entry) if entry.endswith(".index.json") else [entry]
    missing = [name for name in named if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"a model folder holds every file that {entry} names",
            f"{folder} without {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else ""),
            "fetch what is missing",
        )
    return [folder / name for name in named]


def _named(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        fix = "fetch it again"
        raise UserError("a model's index of weights must be JSON with a weight_map", index, fix) from None


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            pointer = file.read(len(_POINTER)) == _POINTER  # what a clone without Git LFS has in a weight file's place
    except OSError as error:
        raise UserError("a weight file must be readable", f"{path}: {error.strerror}", "check its rights") from None
    if pointer:
        raise UserError("a model folder holds weights, not Git LFS pointers to them", path, "run git lfs pull in it")
    if path.suffix == ".safetensors":
        _check_safetensors(path)


def _check_safetensors(path: Path) -> None:
    """A header's length, a header, and as many bytes as it speaks of: what a copy cut short does not have."""
    there, needed = path.stat().st_size, 0
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            begins = file.read(1)
            needed = 8 + length
            if begins == b"{" and needed <= there:
                needed += _data_bytes(json.loads(begins + file.read(length - 1)))
    except (struct.error, ValueError, LookupError, TypeError, AttributeError):
        begins = b""
    if begins != b"{":
        raise UserError("a *.safetensors file must be one", path, "fetch it again")
    if needed != there:
        raise UserError("a weight file must be whole", f"{path} with {there} bytes of {needed}", "fetch it again")


def _data_bytes(header: dict[str, Any]) -> int:
    """Bytes of all tensors that a safetensors header speaks of."""
    return max((one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"), default=0)


def _adapter(files: ModelFiles) -> UserError:
    base = "a base model that it does not name"
    with suppress(OSError, ValueError, AttributeError):  # unreadable, it is an adapter's all the same
        base = json.loads(files.file(ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path") or base
    return UserError(
        "model.name is a whole model, not an adapter",
        f"{files.path}, an adapter of {base}",
        "merge the adapter into its base model and save that with its tokenizer: "
        f'peft.AutoPeftModelForCausalLM.from_pretrained("{files.path}").merge_and_unload().save_pretrained(folder)',
    )


def _gguf(files: ModelFiles, name: str) -> UserError:
    # a transformers that can keep GGUF's blocks as they are saves only what it unpacked
    unpack = ", quantization_config=GgufConfig(dequantize=True)" if "gguf" in known.quantisations() else ""
    return UserError(
        "a model holds weights as *.safetensors",
        f"{files.path} with {name} alone",
        "use the model's repository in safetensors, or convert (pip install gguf): "
        f'AutoModelForCausalLM.from_pretrained("{files.path}", gguf_file="{name}"{unpack}).save_pretrained(folder), '
        "and the same with AutoTokenizer",
    )
