"""Effects at one position: the numbers of a scan whose logits are kept, however few rows fit a step."""

import pytest
import torch

from raybt.engine.probe import effects as module
from raybt.engine.probe.effects import effects
from raybt.engine.probe.scan import scan
from raybt.engine.request import Term

TOKENS = [(i * 7) % 500 + 5 for i in range(60)]
EVENTS, TARGETS, TRIGGERS, WORDS = [10, 40, 59], [3, 4, 5], [5, 6, 7], [[8], [9, 10]]


@pytest.fixture(scope="module")
def both(toy):
    interventions = [(Term(site),) for site in toy.sites[:18]] + [(Term("mlp.2", "scale", 0.5), Term("attn.1"))]
    found = effects(toy, TOKENS, EVENTS, TARGETS, [(), *interventions], TRIGGERS, WORDS)
    return interventions, found, scan(toy, TOKENS, EVENTS, interventions)


def test_they_are_those_of_the_scan(both):
    _, found, kept = both
    columns = {"target_change": kept.change(TARGETS), "kl": kept.divergence(), "trigger_mass": kept.mass(TRIGGERS)}
    for name, table in columns.items():
        got = torch.tensor([getattr(one, name)[1:] for one in found], dtype=torch.float64)
        assert torch.allclose(got, table.double(), atol=1e-5), name
    agrees = (kept.logits.argmax(-1) == kept.identity.argmax(-1)[:, None]).tolist()
    assert [one.agrees[1:] for one in found] == agrees
    words = torch.stack([kept.mass(word) for word in WORDS], -1)
    got = torch.tensor([one.word_mass[1:] for one in found])
    assert torch.allclose(got, words, atol=1e-6)


def test_an_intervention_that_is_none_changes_nothing_and_the_floor_is_rounding(both):
    for one in both[1]:
        assert one.target_change[0] == pytest.approx(0, abs=1e-5) and one.kl[0] == pytest.approx(0, abs=1e-6)
        assert one.agrees[0] and all(0 <= part < 1e-5 for part in one.floor)


def test_the_trigger_sets_part_is_the_two_way_divergence_and_never_more_than_all(both):
    _, found, kept = both
    p, q = kept.identity.softmax(-1)[:, None, TRIGGERS].sum(-1).double(), kept.mass(TRIGGERS).double()
    expected = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    got = torch.tensor([one.kl_trigger[1:] for one in found], dtype=torch.float64)
    assert torch.allclose(got, expected, atol=1e-6)
    assert all(0 <= part <= whole + 1e-9 for one in found for part, whole in zip(one.kl_trigger, one.kl, strict=True))
    assert max(max(one.kl_trigger) for one in found) > 1e-4


def test_steps_of_few_rows_give_the_same(both, toy, monkeypatch):
    interventions, found, _ = both
    monkeypatch.setattr(module, "MOST_ROWS", 16)
    again = effects(toy, TOKENS, EVENTS, TARGETS, [(), *interventions], TRIGGERS, WORDS)
    for one, other in zip(found, again, strict=True):
        assert one.kl == pytest.approx(other.kl, abs=1e-4) and one.target_change == pytest.approx(
            other.target_change, abs=1e-4
        )


def test_an_event_is_measured_the_same_bit_for_bit_whatever_is_measured_beside_it(both, toy):
    """Which events of a text come together depends on what an earlier try had committed."""
    interventions, found, _ = both
    for place, (event, target) in enumerate(zip(EVENTS, TARGETS, strict=True)):
        assert effects(toy, TOKENS, [event], [target], [(), *interventions], TRIGGERS, WORDS) == [found[place]]


@pytest.mark.parametrize("event", [0, 61])
def test_an_event_outside_the_text_is_refused(toy, event):
    with pytest.raises(ValueError, match="positions 1 to 60"):
        effects(toy, TOKENS, [event], [3], [], TRIGGERS)
