"""The lens against its definition, on every family."""

import pytest
import torch

from raybt.engine.anatomy import find_blocks
from raybt.engine.probe.lens import lens
from raybt.errors import UserError
from tests.engine.families import EXOTIC, FAMILIES, anatomy_of

TOKENS = tuple((7 * i + 3) % 90 + 3 for i in range(40))
EVENTS = (9, 22, 39)
TARGETS = [TOKENS[event] for event in EVENTS]


@pytest.mark.parametrize("name", [*FAMILIES, *EXOTIC])
def test_last_layer_is_the_model_and_attribution_sums_to_the_logit(name):
    anatomy = anatomy_of(name)
    found = lens(anatomy, TOKENS, EVENTS, TARGETS)
    with torch.inference_mode():
        for row, (event, target) in enumerate(zip(EVENTS, TARGETS, strict=True)):
            logits = anatomy.model(input_ids=torch.tensor([TOKENS[:event]]), use_cache=False).logits[0, -1]
            assert found.logit[row, -1] == pytest.approx(logits[target].item(), abs=1e-4)
            assert found.log_probability[row, -1] == pytest.approx(logits.log_softmax(-1)[target].item(), abs=1e-4)
            assert found.rank[row, -1] == (logits > logits[target]).sum()
            cap = getattr(anatomy.model.config, "final_logit_softcapping", None)
            whole = found.attribution[row].sum().item()
            capped = whole if cap is None else cap * torch.tanh(torch.tensor(whole / cap)).item()
            assert capped == pytest.approx(logits[target].item(), abs=2e-4)
    assert found.components == ("embedding", *found.places, "bias") and len(found.places) == 6


def test_an_event_is_read_the_same_bit_for_bit_whatever_is_read_beside_it(toy):
    tokens = tuple(range(20, 70))
    together = lens(toy, tokens, (9, 22, 47), (31, 5, 40))
    alone = lens(toy, tokens, (22,), (5,))
    for name in ("logit", "log_probability", "rank", "attribution"):
        assert torch.equal(getattr(together, name)[1], getattr(alone, name)[0])


def test_earlier_layers_are_read_after_their_block(toy):
    """The stream after a block, taken by a plain hook in a full pass, through norm and head."""
    tokens = tuple(range(20, 50))
    found = lens(toy, tokens, (25,), (31,))
    seen = []
    block = find_blocks(toy.model)[2]
    handle = block.register_forward_hook(lambda _m, _i, out: seen.append(out[0] if isinstance(out, tuple) else out))
    with torch.inference_mode():
        toy.model(input_ids=torch.tensor([tokens[:25]]), use_cache=False)
        handle.remove()
        expected = toy.model.lm_head(toy.model.model.norm(seen[0].reshape(25, -1)[-1]))[31]
    assert found.logit[0, found.places.index("mlp.2")] == pytest.approx(expected.item(), abs=1e-4)


def test_a_head_that_does_more_is_refused(toy):
    handle = toy.model.lm_head.register_forward_hook(
        lambda _m, _i, out: out + 0.1 * out.abs() if out.ndim == 3 else out
    )
    try:
        with pytest.raises(UserError, match="last layer"):
            lens(toy, tuple(range(20, 40)), (10,), (5,))
    finally:
        handle.remove()
