"""Sampled frequencies against the exact distributions, and noise that belongs to the row."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from raybt.engine.noise import gumbel, gumbel_at, philox, split64
from raybt.engine.request import Sampling
from raybt.engine.sampling import choose

DRAWS = 20_000


def exact(logits, rule):
    """The distribution by the textbook: sort, cut, renormalise, in float64."""
    scaled = logits.double() / rule.temperature
    order = scaled.argsort(descending=True)
    p = torch.softmax(scaled[order], -1)
    if rule.top_k:
        p[rule.top_k :] = 0
        p = p / p.sum()
    p[p.cumsum(-1) - p >= rule.top_p] = 0
    result = torch.zeros_like(p)
    result[order] = p / p.sum()
    return result.numpy()


@pytest.mark.parametrize("top_p", [0.3, 0.95, 1.0])
@pytest.mark.parametrize("top_k", [0, 5])
@pytest.mark.parametrize("vocabulary", [37, 400])
def test_frequencies_match_the_exact_distribution(vocabulary, top_k, top_p):
    rule = Sampling(temperature=0.8, top_p=top_p, top_k=top_k)
    logits = torch.randn(vocabulary, generator=torch.Generator().manual_seed(3)) * 2
    streams = split64([17 + (i << 20) for i in range(DRAWS)])
    steps = torch.arange(DRAWS) % 50
    tokens, usable = choose(logits.expand(DRAWS, -1), rule, streams, steps)
    p = exact(logits, rule)
    counts = np.bincount(tokens.numpy(), minlength=vocabulary)
    assert usable.all() and counts[p == 0].sum() == 0
    often = p * DRAWS >= 5
    observed = np.append(counts[often], counts[~often].sum())
    expected = np.append(p[often], p[~often].sum()) * DRAWS
    keep = expected > 0
    if keep.sum() > 1:
        assert chisquare(observed[keep], expected[keep]).pvalue > 1e-3


def test_a_flat_distribution_wider_than_the_first_look_is_done_again_in_full():
    rule = Sampling(top_p=0.95)
    tokens, _ = choose(torch.zeros(4000, 1000), rule, split64(list(range(4000))), torch.zeros(4000, dtype=torch.long))
    assert 900 < len(tokens.unique()) <= 950


def test_philox_gives_the_published_vectors():
    def run(counter, key):
        return [hex(w.item()) for w in philox(tuple(map(torch.tensor, counter)), tuple(map(torch.tensor, key)))]

    ones, pi = (0xFFFFFFFF,) * 4, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    assert run((0,) * 4, (0, 0)) == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]
    assert run(ones, ones[:2]) == ["0x408f276d", "0x41c83b0e", "0xa20bc7c6", "0x6d5451fd"]
    assert run(pi, (0xA4093822, 0x299F31D0)) == ["0xd16cfe09", "0x94fdcceb", "0x5001e420", "0x24126ea1"]


def test_noise_depends_on_stream_step_and_token_alone():
    streams, steps = split64([5, 1 << 40, 5]), torch.tensor([0, 3, 1])
    noise = gumbel(streams, steps, 101)
    ids = torch.tensor([[100, 7, 0], [50, 51, 2], [3, 99, 4]])
    assert torch.equal(gumbel_at(streams, steps, ids), noise.gather(1, ids))
    assert torch.equal(gumbel(streams.flip(1), steps.flip(0), 101), noise.flip(0))
    assert not torch.equal(noise[0], noise[2])


def test_noise_is_standard_gumbel():
    noise = gumbel(split64(list(range(200))), torch.zeros(200, dtype=torch.long), 500)
    assert torch.isfinite(noise).all()
    assert kstest(noise.flatten().numpy(), "gumbel_r").pvalue > 1e-3


def test_greedy_takes_the_best_and_bad_logits_are_flagged():
    logits = torch.tensor([[0.0, 2.0, 1.0], [float("nan"), 1.0, 0.0]])
    for rule in (Sampling(greedy=True), Sampling(), Sampling(top_p=0.9)):
        _, usable = choose(logits, rule, split64([1, 2]), torch.zeros(2, dtype=torch.long))
        assert usable.tolist() == [True, False]
    assert choose(logits, Sampling(greedy=True), split64([1, 2]), torch.zeros(2))[0][0] == 1
