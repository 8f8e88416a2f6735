"""Sampled frequencies against the exact distributions, and noise that belongs to the row."""

import numpy as np
import pytest
import torch

from raybt.engine.noise import Race, blocks, exponential, integers, words
from raybt.engine.request import Sampling
from raybt.engine.sampling import choose, kernel_for

DRAWS = 20_000


def noise_of(streams, vocabulary):
    """[streams, vocabulary] noise of each stream's first step."""
    return torch.cat([exponential(words(stream, 0, vocabulary)) for stream in streams])


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


def by_torch(logits, rule, streams, steps):
    noise = torch.cat([exponential(words(*where, logits.shape[1])) for where in zip(streams, steps, strict=True)])
    return choose(logits, rule, noise)


def by_kernel(logits, rule, streams, steps):
    draw = kernel_for(torch.device("cpu")) or pytest.skip("no C compiler")
    return draw(logits, rule, torch.tensor(streams), torch.tensor(steps))


@pytest.mark.parametrize("way", [by_torch, by_kernel])
@pytest.mark.parametrize("top_p", [0.3, 0.95, 1.0])
@pytest.mark.parametrize("top_k", [0, 5])
@pytest.mark.parametrize("vocabulary", [37, 400])
def test_frequencies_match_the_exact_distribution(vocabulary, top_k, top_p, way):
    rule = Sampling(temperature=0.8, top_p=top_p, top_k=top_k)
    logits = torch.randn(vocabulary, generator=torch.Generator().manual_seed(3)) * 2
    streams, steps = [18 + (row << 20) for row in range(DRAWS)], [row % 50 for row in range(DRAWS)]
    tokens, usable = way(logits.repeat(DRAWS, 1), rule, streams, steps)
    p = exact(logits, rule)
    counts = np.bincount(tokens.numpy(), minlength=vocabulary)
    assert usable.all() and counts[p == 0].sum() == 0
    often = p * DRAWS >= 5
    observed = np.append(counts[often], counts[~often].sum())
    expected = np.append(p[often], p[~often].sum()) * DRAWS
    keep = expected > 0
    if keep.sum() > 1:
        distance = ((observed - expected)[keep] ** 2 / expected[keep]).sum()
        freedom = torch.tensor((keep.sum() - 1) / 2, dtype=torch.float64)
        assert torch.special.gammaincc(freedom, torch.tensor(distance / 2)) > 1e-3  # the p of a chi-square test


def test_a_wide_top_p_set_is_cut_where_the_sorted_one_is():
    logits = torch.linspace(0, 0.5, 1000)
    rule = Sampling(top_p=0.6)
    allowed = set(exact(logits, rule).nonzero()[0])
    tokens, _ = choose(logits.repeat(8000, 1), rule, noise_of(range(8000), 1000))
    drawn = set(tokens.unique().tolist())
    assert drawn <= allowed and len(drawn) > 0.99 * len(allowed)


def test_a_miss_is_run_again_with_the_same_noise():
    logits = torch.randn(50, 200, generator=torch.Generator().manual_seed(1))
    noise = noise_of(range(50), 200)
    tokens, _ = choose(logits.clone(), Sampling(top_p=0.3), noise.clone())
    for row in range(50):
        kept = torch.tensor(exact(logits[row], Sampling(top_p=0.3)), dtype=torch.float32)
        assert tokens[row] == (kept / noise[row]).argmax()


def test_a_token_that_holds_all_the_mass_wins_against_the_worst_noise():
    worst = exponential(np.array([[0xFFFFFFFF, 0, 0]], dtype=np.uint32))
    assert torch.isfinite(worst).all()
    tokens, usable = choose(torch.tensor([[0.0, -200.0, -200.0]]), Sampling(top_p=0.5), worst)
    assert tokens.tolist() == [0] and usable.all()


def test_words_are_numpys_philox_and_token_i_has_word_i():
    raw = np.random.Philox(key=77, counter=5 * blocks(100)).random_raw(52)
    expected = np.stack([raw & np.uint64(0xFFFFFFFF), raw >> np.uint64(32)], axis=1).ravel()[:100]
    assert (words(77, 5, 100)[0] == expected).all()


def test_noise_depends_on_stream_step_and_token_alone():
    """A slot that reads ahead, is given up half-way and refilled gives the same noise as a look at one step."""
    race = Race(3, 700)
    for slot, stream in enumerate([5, 1 << 63, 9]):
        race.start(slot, stream)
    for step in range(13):
        noise = race.take()
        if step == 7:
            race.free(2)
            race.start(2, 1234)
        for slot, stream, began in [(0, 5, 0), (1, 1 << 63, 0), *([(2, 1234, 8)] if step > 7 else [(2, 9, 0)])]:
            assert torch.equal(noise[slot], exponential(words(stream, step - began, 700))[0])
    assert not np.array_equal(words(5, 0, 700), words(5, 1, 700))
    assert not np.array_equal(words(5, 0, 700), words(9, 0, 700))


def test_noise_is_standard_exponential():
    noise = noise_of(range(200), 500)
    assert torch.isfinite(noise).all() and (noise > 0).all()
    found = -torch.expm1(-noise.double().flatten().sort().values)  # uniform, if the noise is what it should be
    steps = torch.arange(len(found) + 1, dtype=torch.float64) / len(found)
    distance = torch.maximum(steps[1:] - found, found - steps[:-1]).max()
    assert 2 * torch.exp(-2 * len(found) * distance**2) > 1e-3  # the p of a Kolmogorov-Smirnov test


def test_draws_of_other_kinds_are_long_and_their_own():
    assert np.array_equal(integers(4, 50)[:20], integers(4, 20))
    assert integers(4, 1000).min() >= 0 and not np.array_equal(integers(4, 8), integers(5, 8))


def test_greedy_takes_the_best_and_bad_logits_are_flagged():
    logits = torch.tensor([[0.0, 2.0, 1.0], [float("nan"), 1.0, 0.0], [0.0, float("inf"), 1.0]])
    for rule in (Sampling(greedy=True), Sampling(), Sampling(top_p=0.9)):
        _, usable = choose(logits.clone(), rule, noise_of(range(3), 3))
        assert usable.tolist() == [True, False, False]
    assert choose(logits, Sampling(greedy=True), None)[0][0] == 1
