"""The scan against one full pass a row."""

import pytest
import torch

from raybt.engine.bank import Bank
from raybt.engine.probe.scan import divergence, scan
from raybt.engine.request import Term
from tests.engine.families import EXOTIC, FAMILIES, anatomy_of
from tests.engine.reference import changed

TOKENS = tuple((7 * i + 3) % 90 + 3 for i in range(40))
EVENTS = (9, 22, 40 - 1)


@torch.inference_mode()
def full_pass(anatomy, tokens, terms, bank):
    """Logits at the last position of one plain pass, terms applied there by plain hooks."""
    points = {site: (point, part) for point in anatomy.points for part, site in enumerate(point.sites)}
    handles = []
    for term in terms:
        point, part = points[term.site]

        def change(hidden, term=term, part=part, heads=point.heads):
            width = hidden.shape[-1] // heads
            rows = hidden.reshape(-1, hidden.shape[-1]).clone()  # Llama 4's experts give [positions, hidden]
            span = slice(part * width, (part + 1) * width)
            rows[-1:, span] = changed(rows[-1:, span], term, bank, None)
            return rows.reshape(hidden.shape)

        if point.side == "input":
            handles.append(point.module.register_forward_pre_hook(lambda _m, args, f=change: (f(args[0]), *args[1:])))
        else:
            handles.append(
                point.module.register_forward_hook(
                    lambda _m, _i, o, f=change: (f(o[0]), *o[1:]) if isinstance(o, tuple) else f(o)
                )
            )
    try:
        return anatomy.model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("name", [*FAMILIES, *EXOTIC])
def test_equals_one_full_pass_for_each_site_and_event(name):
    anatomy = anatomy_of(name)
    bank = {"v": torch.randn(48, generator=torch.Generator().manual_seed(2))}
    interventions = [(Term(site),) for site in anatomy.sites[::3]]
    interventions += [(Term("mlp.1", "mean", 1.0, "v"),), (Term("attn.0"), Term("mlp.2", "scale", 0.5))]
    found = scan(anatomy, TOKENS, EVENTS, interventions, Bank(bank))
    for index, event in enumerate(EVENTS):
        for number, terms in enumerate([(), *interventions]):
            ours = found.logits[index, number - 1] if terms else found.identity[index]
            assert (ours - full_pass(anatomy, TOKENS[:event], terms, bank)).abs().max() < 1e-4, (event, terms)


def test_measures_say_what_their_names_say(toy):
    tokens = tuple(range(20, 50))
    found = scan(toy, tokens, (12, 25), [(Term("mlp.3"),), (Term("mlp.3", "scale", 1.0),), (Term("attn.4"),)])
    targets = [tokens[12], tokens[25]]
    before, after = found.identity.log_softmax(-1), found.logits.log_softmax(-1)
    assert found.change(targets)[1, 0] == after[1, 0, tokens[25]] - before[1, tokens[25]]
    assert torch.equal(found.change(targets)[:, 1], torch.zeros(2))
    assert torch.allclose(found.mass(range(600)), torch.ones(2, 3), atol=1e-5)
    assert (found.divergence()[:, [0, 2]] > 1e-6).all() and (found.divergence()[:, 1] == 0).all()
    assert (found.floor() <= 1e-4).all()
    p, q = torch.tensor([0.2, 0.8]).log(), torch.tensor([0.5, 0.5]).log()
    assert divergence(p, q).item() == pytest.approx(
        0.2 * torch.log(torch.tensor(0.4)) + 0.8 * torch.log(torch.tensor(1.6))
    )


def test_events_outside_the_text_are_refused(toy):
    with pytest.raises(ValueError, match="positions 1 to 4"):
        scan(toy, (5, 6, 7, 8, 9), (5,), [()])


def test_many_rows_are_read_in_several_steps(toy, monkeypatch):
    tokens, interventions = tuple(range(20, 40)), [(Term(site),) for site in toy.sites]
    whole = scan(toy, tokens, (5, 15), interventions)
    monkeypatch.setattr("raybt.engine.probe.scan.ROWS", 32)
    assert (scan(toy, tokens, (5, 15), interventions).logits - whole.logits).abs().max() < 1e-5
