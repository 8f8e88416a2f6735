"""The proof of an architecture, made once for a config, the libraries and the device, and kept on this machine."""

import json
import os
import tempfile
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from raybt.errors import UserError
from raybt.fleet.job import Job


def demand_architecture(job: Job) -> Any:
    """The proof, where it holds for all that the job's stages measure.

    Raises:
        UserError: it does not, or none can be made.
    """
    from raybt.engine.anatomy import unsupported
    from raybt.engine.load import architecture_of

    asked = {
        "revision": job.revision,
        "dtype": job.model.dtype,
        "device": job.model.device,
        "attention": job.model.attention,
        "trust_remote_code": job.model.trust_remote_code,
    }
    file = _folder() / f"{_name(job)}.json"
    proof = _read(file)
    if proof is None:
        proof = architecture_of(job.path, **asked)
        _write(file, proof)
    for measure in job.measures:
        if measure in proof.faults:
            raise UserError(*unsupported(measure, proof.model_type, proof.faults[measure]))
    return proof


def _name(job: Job) -> str:
    """A hash of all that the proof depends on: the model's config, what computes, and raybt's engine itself."""
    import torch
    import transformers

    from raybt import engine
    from raybt.engine.load import pick_device, read_config

    model, hasher = job.model, blake2b(digest_size=16, person=b"raybt proof")
    config = read_config(job.path, job.revision, model.trust_remote_code)
    device = pick_device(model.device)
    card = torch.cuda.get_device_name() if device == "cuda" else device
    sources = sorted(Path(engine.__path__[0]).rglob("*.*"))
    parts = [config.to_json_string(use_diff=False), model.dtype, model.attention, card, torch.__version__]
    parts += [transformers.__version__, *(path.read_text() for path in sources if path.suffix in (".py", ".c", ".h"))]
    if model.trust_remote_code:  # the model's code is its own
        parts += [job.fingerprint, *(path.read_text() for path in sorted(Path(job.path).glob("*.py")))]
    for part in parts:
        hasher.update(f"{len(part)}:{part}".encode())
    return hasher.hexdigest()


def _folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "raybt" / "proofs"


def _read(file: Path) -> Any:
    from raybt.engine.architecture import Proof

    try:
        return Proof(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):  # none yet, or one that cannot be read, costs a proof
        return None


def _write(file: Path, proof: Any) -> None:
    with suppress(OSError):  # a read-only home costs a proof at the next start, nothing else
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as part:
            json.dump(vars(proof), part)
        os.replace(part.name, file)
