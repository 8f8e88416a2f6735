"""A model whose layers lie in memory and on disk (accelerate's device map) against the same model undivided."""

import pytest
import torch

from raybt.engine.anatomy import split
from raybt.engine.decode import Decoder
from raybt.engine.load import load_model
from raybt.engine.probe.scan import scan
from raybt.engine.request import Request, Sampling, Term
from raybt.toy import MODEL_DIR


@pytest.fixture(scope="module")
def divided():
    places = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.norm": "cpu", "lm_head": "cpu"}
    layers = {f"model.layers.{layer}": "disk" if layer in (2, 3) else "cpu" for layer in range(6)}
    return load_model(str(MODEL_DIR), device_map=places | layers)


def test_it_is_divided_and_its_wiring_was_proved(divided, toy):
    assert split(divided) and not split(toy)
    assert {p.device.type for p in divided.model.model.layers[2].parameters()} == {"meta"}
    assert divided.sites == toy.sites and divided.device.type == "cpu"


def test_rows_and_probes_are_those_of_the_undivided_model(divided, toy, prompts):
    terms = [(), (Term("mlp.2"),), (Term("head.3.1"), Term("attn.5", "scale", 0.5))]
    rows = [Request(f"{i}", prompts[i % 4], 15, i, terms[i % 3], "generated") for i in range(12)]

    def written(anatomy):
        decoder = Decoder(anatomy, Sampling(0.7), 16, 160)
        try:
            return {done.key: (done.token_ids, done.receipt, done.error) for done in decoder.run(rows)}
        finally:
            decoder.close()

    assert written(divided) == written(toy)
    ours, theirs = (scan(anatomy, prompts[0], (9,), terms[1:]) for anatomy in (divided, toy))
    assert torch.equal(ours.logits, theirs.logits)
