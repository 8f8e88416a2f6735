"""How much there is to load, as a user reads it."""

from pathlib import Path

from huggingface_hub import try_to_load_from_cache


def weights_here(path: str, revision: str | None) -> str:
    """`3.3 GiB` of weight files in a local folder or the hub's cache; of a model that is not there yet its name."""
    folder = Path(path)
    if not folder.is_dir():
        found = try_to_load_from_cache(path, "config.json", revision=revision)
        folder = Path(found).parent if isinstance(found, str) else folder
    files = list(folder.glob("*.safetensors")) or list(folder.glob("*.bin"))
    return size(sum(file.stat().st_size for file in files)) if files else f"{path}, which is fetched first"


def size(count: int) -> str:
    """Bytes as GiB, or MiB below one."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
