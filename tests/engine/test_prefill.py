"""Prompts prefilled together: the numbers of each alone, whatever comes with it."""

import pytest
import torch

from raybt.engine import prefill
from raybt.engine.anatomy import dissect
from raybt.engine.decode import Decoder
from raybt.engine.hooks import Hooks
from raybt.engine.prefill import MOST, STRETCH, TOKENS, Prefixes, shape_of
from raybt.engine.request import Request, Sampling, Term
from tests.engine.families import family


@pytest.fixture(scope="module", params=["qwen2", "mistral", "gemma2", "phi3", "gpt2"])
def anatomy(request):
    return dissect(family(request.param))


def text(seed, tokens):
    return tuple((seed * 31 + 7 * i) % 90 + 3 for i in range(tokens))


def rows(sizes):
    return [Request(str(i), text(i, size), 4, i) for i, size in enumerate(sizes)]


def test_shapes_depend_on_a_prompts_own_length():
    assert shape_of(1) == shape_of(STRETCH) == (MOST, STRETCH) and shape_of(STRETCH + 1) == (MOST, 2 * STRETCH)
    assert shape_of(TOKENS) == (1, TOKENS) and shape_of(TOKENS + 1) == (1, TOKENS + STRETCH)


def test_together_they_have_the_numbers_of_each_alone(anatomy):
    several, alone = Prefixes(anatomy, Hooks(anatomy, 16), together=True), Prefixes(anatomy, Hooks(anatomy, 16))
    for row in rows([9, 30, 17, 2]):
        ours, theirs = several.get(row, rows([9, 30, 17, 2])).store, alone.get(row).store
        assert all(torch.allclose(a, b, atol=2e-5) for a, b in zip(ours, theirs, strict=True))


def test_bits_do_not_depend_on_companions_or_place(anatomy):
    def found(ahead):
        return Prefixes(anatomy, Hooks(anatomy, 16), together=True).get(rows([21])[0], ahead).store

    first = found([])
    for ahead in (rows([21, 40, 12]), rows([21, *range(2, 40)])):
        assert all(torch.equal(a, b) for a, b in zip(first, found(ahead), strict=True))


def test_prompts_to_come_are_taken_along_where_they_fit(anatomy):
    prefixes = Prefixes(anatomy, Hooks(anatomy, 16), together=True)
    ahead = rows([9, 70, 30, 1, *[5] * 20])
    ahead.append(Request("hooked", text(99, 8), 4, 0, (Term("mlp.1"),), "all"))
    prefixes.get(ahead[0], ahead)
    held = {name[0] for name in prefixes._prefixes}
    assert len(held) == MOST and ahead[0].prompt in held and ahead[2].prompt in held
    assert not held & {ahead[1].prompt, ahead[3].prompt, ahead[-1].prompt}  # another shape, one token, a hook acts


def test_padding_never_goes_beyond_the_models_reach(anatomy):
    prefixes = Prefixes(anatomy, Hooks(anatomy, 16), together=True, reach=STRETCH - 1)
    ahead = rows([9, 30])
    prefixes.get(ahead[0], ahead)
    assert [name[0] for name in prefixes._prefixes] == [ahead[0].prompt]


def test_tokens_are_those_of_prompts_prefilled_alone(anatomy):
    def written(together):
        decoder = Decoder(anatomy, Sampling(0.8), 16, 64)
        decoder.prefixes.together = together
        done = {row.key: row.token_ids for row in decoder.run(rows([3 + 2 * i % 23 for i in range(40)]))}
        decoder.close()
        return done

    assert written(True) == written(False)


def test_rows_that_start_at_once_are_prefilled_together(anatomy, monkeypatch):
    decoder, passes = Decoder(anatomy, Sampling(greedy=True), 16, 96), []
    together = prefill.prefilled_together
    monkeypatch.setattr(prefill, "prefilled_together", lambda *given: passes.append(len(given[1])) or together(*given))
    decoder.prefixes.together = True
    decoder.submit(rows(range(9, 25)))
    decoder.refill([])
    decoder.close()
    assert passes == [MOST, MOST] and all(decoder.requests)
