"""Continuations from an onset's prefix."""

import pytest

from raybt.engine.probe.continuation import continuations
from raybt.engine.probe.scan import scan
from raybt.engine.request import Sampling, Term

WARM = Sampling(temperature=0.9)


def test_the_intervention_acts_at_the_onset_step_alone(toy, prompts):
    text, strong = prompts[0], (Term("resid.5", "zero"),)  # flat logits at that step
    streams = range(40)
    plain, same, cut = continuations(
        toy, text, len(text), [(), (Term("mlp.3", "scale", 1.0),), strong], streams, 6, WARM
    )
    assert [done.token_ids for done in plain] == [done.token_ids for done in same]
    assert len({done.token_ids for done in plain}) > 1
    assert [done.token_ids[0] for done in plain] != [done.token_ids[0] for done in cut]
    assert all(done.receipt == {"resid.5": 1} and done.error is None for done in cut)


def test_first_tokens_follow_the_scans_distribution(toy, prompts):
    """The step that a continuation samples from is the one that the scan reads."""
    text, terms = (*prompts[0], 30), (Term("attn.4"),)
    hot = Sampling(temperature=1.0)
    (drawn,) = continuations(toy, text, len(text) - 1, [terms], range(600), 1, hot)
    p = scan(toy, text, (len(text) - 1,), [terms]).logits[0, 0].softmax(-1)
    best = int(p.argmax())
    share = sum(done.token_ids[0] == best for done in drawn) / len(drawn)
    assert share == pytest.approx(p[best].item(), abs=4 * (0.25 / 600) ** 0.5)


def test_an_event_outside_the_text_is_refused(toy):
    with pytest.raises(ValueError, match="position 1 to 3"):
        continuations(toy, (5, 6, 7), 4, [()], [0], 2, WARM)
