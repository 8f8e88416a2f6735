"""Shared by all tests: the shipped model, some of its problems, and one local Ray."""

import os
import secrets

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["RAY_AUTH_MODE"] = "token"  # as Ray does by itself, but with a token that leaves no file behind
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

import pytest

from raybt.toy import MODEL_DIR


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
