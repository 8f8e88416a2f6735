"""The model of a job, in the process that will use it: verified, loaded, proved, and wide enough for its vectors."""

from collections.abc import Callable
from pathlib import Path

from raybt.errors import UserError
from raybt.fleet.job import Job
from raybt.fleet.proofs import demand_architecture
from raybt.fleet.sizes import weights_here
from raybt.plan.fingerprint import LOCAL, fingerprint


def verify(job: Job) -> None:
    """The model here must be the model that the rows' keys name.

    Raises:
        UserError: a local model's files differ on this node.
    """
    here = fingerprint(Path(job.path)) if job.fingerprint.startswith(LOCAL) else job.fingerprint
    if here != job.fingerprint:
        raise UserError(
            "every replica must load the model that the driver planned with",
            f"{job.path} is {here} here and {job.fingerprint} there",
            "copy the same files to every node, or use a shared folder or a hub id",
        )


def load_anatomy(job: Job, told: Callable[[str], None] = lambda phase: None):
    """The job's model on this process's device, verified and proved.

    Args:
        told: called with what is being done now: `loading 3.3 GiB`, `proving 420 sites`.

    Raises:
        UserError: it is another model than the driver's, or cannot be loaded.
    """
    told("importing torch and transformers")
    import torch

    from raybt.engine.load import load_model

    torch.set_num_threads(job.threads)
    told("checking the model's files")
    verify(job)
    told("proving the architecture")
    proof = demand_architecture(job)
    told(f"loading {weights_here(job.path, job.revision)}")
    return load_model(
        job.path,
        revision=job.revision,
        dtype=job.model.dtype,
        device=job.model.device,
        attention=job.model.attention,
        trust_remote_code=job.model.trust_remote_code,
        device_map=job.model.device_map,
        proof=proof,
        told=told,
    )


def check_widths(anatomy, sites_of: dict[str, str], widths: dict[str, int]) -> None:
    """Every vector must be as wide as what its site puts out.

    Raises:
        UserError: one is not.
    """
    hidden = anatomy.model.get_input_embeddings().weight.shape[1]
    for name, site in sites_of.items():
        heads = anatomy.head_width if site.startswith("head.") else hidden
        if widths.get(name, heads) != heads:
            raise UserError(
                f"a vector must be as wide as its site's output, {heads} at {site}",
                f"{widths[name]}",
                "make it from this model, or give it to sites of that width",
            )
