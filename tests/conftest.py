"""Shared by all tests: the shipped model, some of its problems, and one local Ray."""

import gc
import os
import secrets

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["RAY_AUTH_MODE"] = "token"  # as Ray does by itself, but with a token that leaves no file behind
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

from pathlib import Path

import pytest

from raybt.toy import MODEL_DIR

FLEET = Path(__file__).parent / "fleet"
WITHOUT_RAY = {f"test_{name}.py" for name in ("desk", "full_size", "probing", "proofs", "rehearsal")}


def uses_ray(path: Path) -> bool:
    return path.is_relative_to(FLEET) and path.name not in WITHOUT_RAY


def pytest_collection_modifyitems(items):
    """The tests of whole runs first: with two processes one of them does these, and the other all else meanwhile."""
    items.sort(key=lambda item: not uses_ray(item.path))  # a stable sort


def pytest_collection_finish(session):
    """What the modules imported stays to the end. statsmodels collects garbage at each call, and looks at all else."""
    gc.freeze()


def pytest_sessionfinish(session):
    gc.unfreeze()  # or Triton's bindings tell of leaks when Python ends


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """All tests of whole runs go to one process, so that they share one Ray; others file by file."""
    from xdist.scheduler import LoadScopeScheduling

    class OneRay(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "ray" if uses_ray(config.rootpath / file) else file

    return OneRay(config, log)


@pytest.fixture(scope="session")
def toy():
    """The shipped model, dissected and proved, in fp32 on one thread."""
    import torch

    from raybt.engine.load import load_model

    torch.set_num_threads(1)
    return load_model(str(MODEL_DIR), device="cpu")


@pytest.fixture(scope="session")
def tokenizer():
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(MODEL_DIR)
