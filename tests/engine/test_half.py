"""Half precision, for every family: as near to float32 as transformers' own, hooks exact, every probe there."""

import pytest
import torch

from raybt.engine.anatomy import dissect
from raybt.engine.decode import Decoder
from raybt.engine.hooks import Hooks
from raybt.engine.probe.continuation import continuations
from raybt.engine.probe.effects import effects
from raybt.engine.probe.lens import Head, lens
from raybt.engine.receipts import demanded_positions
from raybt.engine.request import Request, Sampling, Term
from raybt.engine.score import forced_logits
from raybt.engine.vectors import outputs_at
from raybt.engine.wiring import prove_wiring
from raybt.errors import UserError
from tests.engine.families import EXOTIC, FAMILIES, anatomy_of, family

HALVES = [torch.bfloat16, torch.float16]
ROWS, LENGTH, BEGUN = 44, 52, 4  # 44 rows of 48 positions each: 2,112, past every window
TEXT = tuple((7 * i + 3) % 90 + 3 for i in range(40))
each_half = pytest.mark.parametrize("dtype", HALVES, ids=["bf16", "fp16"])
each_family = pytest.mark.parametrize("name", [*FAMILIES, *EXOTIC])


def texts() -> list[tuple[int, ...]]:
    drawn = torch.randint(3, 96, (ROWS, LENGTH), generator=torch.Generator().manual_seed(3))
    return [tuple(row) for row in drawn.tolist()]


@torch.inference_mode()
def passes(model) -> torch.Tensor:
    """Logits of a plain pass over all rows, none of them padded, [positions, vocabulary]."""
    return model(input_ids=torch.tensor(texts()), use_cache=False).logits[:, BEGUN - 1 : -1].flatten(0, 1).float()


def decoded(anatomy) -> torch.Tensor:
    rows = [Request(f"{i:02d}", row[:BEGUN], LENGTH - BEGUN) for i, row in enumerate(texts())]
    found = forced_logits(anatomy, rows, {one.key: row[BEGUN:] for one, row in zip(rows, texts(), strict=True)})
    return torch.cat([found[row.key] for row in rows]).float()


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).pow(2).mean().sqrt())


@each_half
@each_family
def test_logits_are_as_near_to_float32_as_transformers_own(name, dtype):
    exact = passes(family(name))
    half = anatomy_of(name, dtype)
    ours, theirs = apart(decoded(half), exact), apart(passes(half.model), exact)
    assert len(exact) >= 2000 and 0 < ours <= 1.1 * theirs


@each_half
@each_family
def test_hooks_that_change_nothing_change_no_bit_and_receipts_are_right(name, dtype):
    anatomy = anatomy_of(name, dtype)
    prove_wiring(anatomy)
    sites = ("attn.1", "mlp.0", "head.2.3", "resid.1")
    terms = {
        "none": (),
        "one": tuple(Term(site, "scale", 1.0) for site in sites),
        "half": (Term("mlp.1", "scale", 0.5),),
    }
    rows = [Request(f"{key} {draw}", TEXT[:9], 12, draw, terms[key], "generated") for key in terms for draw in range(5)]
    decoder = Decoder(anatomy, Sampling(), 16, 32)
    done = {row.key: row for row in decoder.run(rows)}
    decoder.close()
    for row in rows:
        steps = demanded_positions(row, done[row.key].token_ids) if row.active else 0
        assert done[row.key].error is None and done[row.key].receipt == {term.site: steps for term in row.active}
    assert all(done[f"none {draw}"].token_ids == done[f"one {draw}"].token_ids for draw in range(5))
    forced = {f"{key} 0": TEXT[9:20] for key in terms}
    logits = forced_logits(anatomy, [row for row in rows if row.key in forced], forced, slots=16)
    assert torch.equal(logits["none 0"], logits["one 0"]) and not torch.equal(logits["none 0"], logits["half 0"])


@each_half
@each_family
def test_probes_measure(name, dtype):
    anatomy = anatomy_of(name, dtype)
    events, targets = (9, 22, 39), [TEXT[9], TEXT[22], TEXT[39]]
    found = effects(anatomy, TEXT, events, targets, [(), (Term("mlp.1"),)], (5, 6))
    assert all(abs(one.target_change[0]) <= 10 * one.floor[0] + 1e-4 and one.kl[1] > 1e-4 for one in found)
    read = lens(anatomy, TEXT, events, targets)
    with torch.inference_mode():
        said = torch.stack(
            [anatomy.model(torch.tensor([TEXT[:event]]), use_cache=False).logits[0, -1] for event in events]
        )
    spread = float(said.float().std())
    assert float((read.logit[:, -1] - said.float()[range(3), targets]).abs().max()) < 0.1 * spread
    assert read.components[-2:] == ("rounding", "bias")
    (same, cut) = continuations(anatomy, TEXT, 30, [(), (Term("resid.1"),)], range(4), 5, Sampling())
    assert all(done.error is None for done in [*same, *cut]) and cut[0].receipt == {"resid.1": 1}
    (means,) = outputs_at(anatomy, ["attn.1", "head.0.1"], [(TEXT, [3, 5])])
    assert means["attn.1"].shape == (2, 48) and means["attn.1"].dtype == "float32"


@each_half
def test_a_head_hook_that_takes_the_wrong_slice_is_caught(dtype, monkeypatch):
    """The tolerance for rounding must not hide a planted fault: here head 1's hook takes its neighbour."""
    anatomy = dissect(family("qwen2").to(dtype))
    prove_wiring(anatomy)
    columns = Hooks.columns

    def crossed(self, interventions):
        return columns(
            self,
            [[t._replace(site="head.1.2") if t.site == "head.1.1" else t for t in terms] for terms in interventions],
        )

    monkeypatch.setattr(Hooks, "columns", crossed)
    with pytest.raises(UserError, match=r"not so in Qwen2ForCausalLM: head\.1\.1$|not so.*head\.1\.1\."):
        prove_wiring(anatomy)


@each_half
def test_a_lens_that_leaves_the_last_component_out_is_caught(dtype, monkeypatch):
    anatomy, read = anatomy_of("qwen2", dtype), Head.__call__
    monkeypatch.setattr(Head, "__call__", lambda self, stream: read(self, stream.roll(1, 0)))
    with pytest.raises(UserError, match=r"last layer's lens must equal the model's logits; got they are .* apart"):
        lens(anatomy, TEXT, [9], [TEXT[9]])
