"""Every operation at every kind of site, policy and family, against its definition written out around `generate`."""

from functools import cache
from itertools import combinations, product

import pytest
import torch

from raybt.engine.anatomy import dissect
from raybt.engine.bank import Bank
from raybt.engine.decode import Decoder
from raybt.engine.request import Request, Sampling, Term
from raybt.engine.score import Recorder, forced_logits
from tests.engine.families import FAMILIES, family
from tests.engine.reference import generate

OPERATIONS = {"scale": 0.5, "zero": 0.0, "mean": 1.0, "resample": 0.7, "add": 1.5, "project_out": 1.0, "clamp": 2.0}
POSITIONS = ("decode", "generated", "prompt", "all", "onset", "after_trigger")
KINDS = ("attn.1", "mlp.1", "resid.0", "head.1.2")
PROMPT = tuple(range(3, 20))
TRIGGERS = ((40,), (7, 9))
WRITTEN = (5, 40, 11, 7, 9, 8, 7, 40, 3, 3, 3, 3, 9, 10)  # holds both triggers, one cut short, two close together


def all_pairs(*axes):
    """Rows of values in which each pair of values of two axes stands at least once (greedy cover)."""
    pairs = {(i, x, j, y) for i, j in combinations(range(len(axes)), 2) for x, y in product(axes[i], axes[j])}

    def covered(row):
        return {(i, row[i], j, row[j]) for i, j in combinations(range(len(axes)), 2)}

    rows = list(product(*axes))
    chosen = []
    while pairs:
        best = max(rows, key=lambda row: len(covered(row) & pairs))
        chosen.append(best)
        pairs -= covered(best)
    return chosen


COVER = all_pairs(tuple(OPERATIONS), POSITIONS, tuple(FAMILIES), KINDS)


def vectors(anatomy):
    """One fixed vector and a table of five for every width in use."""
    generator = torch.Generator().manual_seed(4)
    config = anatomy.model.config.get_text_config()
    width = {"stream": config.hidden_size, "head": anatomy.point("head.1").module.weight.numel()}
    width["head"] = width["head"] // config.hidden_size // anatomy.point("head.1").heads
    draw = {f"{kind} {n}": (n, size) for kind, size in width.items() for n in (1, 5)}
    tables = {name: torch.randn(shape, generator=generator) for name, shape in draw.items()}
    return {name: table[0] if name.endswith(" 1") else table for name, table in tables.items()}


def row_of(operation, positions, site):
    kind = "head" if site.startswith("head") else "stream"
    vector = f"{kind} {5 if operation == 'resample' else 1}"
    term = Term(site, operation, OPERATIONS[operation], None if operation in ("scale", "zero") else vector)
    window = {"onset": (2, 5), "after_trigger": (0, 2)}.get(positions)
    name = f"{operation} {positions} {site}"
    return Request(name, PROMPT, len(WRITTEN), stream=77, terms=(term,), positions=positions, window=window)


@cache
def of(name):
    """A family's random model, its rows of the cover, and the vectors that these use."""
    anatomy = dissect(family(name))
    cases = [(operation, positions, site) for operation, positions, kin, site in COVER if kin == name]
    return anatomy, [row_of(*case) for case in cases], vectors(anatomy)


@pytest.fixture(params=FAMILIES)
def of_family(request):
    return of(request.param)


class Forcing:
    """Makes `generate` write given tokens: its logits are kept before this changes them."""

    def __init__(self, tokens, prompt):
        self.tokens, self.prompt = tokens, prompt

    def __call__(self, input_ids, scores):
        forced = torch.full_like(scores, -torch.inf)
        forced[:, self.tokens[input_ids.shape[1] - self.prompt]] = 0
        return forced


def test_logits_equal_the_definition_and_each_operation_changes_them(of_family):
    """All of a family's rows side by side in one batch, against each alone around `generate`."""
    anatomy, rows, tables = of_family
    bare = Request("bare", PROMPT, len(WRITTEN))
    tokens = {row.key: WRITTEN for row in [bare, *rows]}
    ours = forced_logits(anatomy, [bare, *rows], tokens, 32, Bank(tables), TRIGGERS)
    for row in rows:
        written, expected = generate(anatomy, row, tables, TRIGGERS, Forcing(WRITTEN, len(PROMPT)))
        assert written == WRITTEN
        assert (ours[row.key] - expected).abs().max() < 1e-4, row.key
        assert (ours[row.key] - ours["bare"]).abs().max() > 1e-3, row.key


def test_greedy_tokens_equal_wherever_the_best_is_clear():
    steps = clear = 0
    for name in FAMILIES:
        anatomy, rows, tables = of(name)
        decoder = Decoder(anatomy, Sampling(greedy=True), 32, 64, Bank(tables), TRIGGERS)
        ours = {done.key: done for done in decoder.run(rows)}
        decoder.close()
        for row in rows:
            tokens, logits = generate(anatomy, row, tables, TRIGGERS)
            margin = logits.topk(2).values.diff().abs()[:, 0] > 1e-3
            agreed = len(tokens) if margin.all() else int(margin.int().argmin())
            assert ours[row.key].error is None
            assert ours[row.key].token_ids[:agreed] == tokens[:agreed], (name, row.key)
            steps, clear = steps + len(tokens), clear + int(margin.sum())
    assert steps > 500 and clear >= 0.99 * steps


def test_a_term_that_changes_nothing_equals_no_hooks_bit_for_bit(of_family):
    anatomy, _, tables = of_family
    nothing = [("scale", 1.0), ("mean", 0.0), ("resample", 0.0), ("add", 0.0), ("project_out", 0.0)]
    idle = [
        Request(
            f"{operation}", PROMPT, 8, terms=(Term(KINDS[i % 4], operation, strength, "stream 1"),), positions="all"
        )
        for i, (operation, strength) in enumerate(nothing)
    ]
    bare, hooked = (Recorder(anatomy, Sampling(), 16, 64, Bank(tables), TRIGGERS) for _ in range(2))
    bare.close()
    reference = {done.key: done for done in bare.run(idle)}
    ours = {done.key: done for done in hooked.run(idle)}
    hooked.close()
    for key in ours:
        assert ours[key].token_ids == reference[key].token_ids and ours[key].receipt == {}
        assert all(torch.equal(a, b) for a, b in zip(hooked.seen[key], bare.seen[key], strict=True))


def test_all_pairs_are_covered():
    seen = {frozenset([(0, o), (1, p)]) for o, p, _, _ in COVER} | {frozenset([(0, o), (2, f)]) for o, _, f, _ in COVER}
    assert len(seen) == len(OPERATIONS) * (len(POSITIONS) + len(FAMILIES))
    assert len({(p, f) for _, p, f, _ in COVER}) == len(POSITIONS) * len(FAMILIES)
