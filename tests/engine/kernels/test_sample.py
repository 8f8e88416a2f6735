"""The draw in Triton against the plain way."""

import pytest

from tests.engine.kernels.triton_here import CARDS, compiled, each_interpreted, needs_triton

pytestmark = needs_triton

BOTH = """
import torch
from raybt.engine.kernels.sample import GROUP, plan, sample
from raybt.engine.noise import exponential, words
from raybt.engine.request import Sampling
from raybt.engine.sampling import choose

def named(rows):
    streams, steps = [(i * 0x9E3779B97F4A7C15 + 5) % 2**64 for i in range(rows)], [i * 7 for i in range(rows)]
    return streams, steps, torch.tensor([s - 2**64 if s >> 63 else s for s in streams]), torch.tensor(steps)

def ours_and_plain(logits, rule):
    streams, steps, signed, counted = named(len(logits))
    noise = torch.cat([exponential(words(s, t, logits.shape[1])) for s, t in zip(streams, steps)])
    ours, usable = sample(logits, rule, signed, counted)
    assert usable.all() and usable.dtype == torch.bool and ours.dtype == torch.long
    return ours, choose(logits.clone(), rule, noise)[0]

def bell(rows, vocabulary, seed, spread=2.5):
    return spread * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))

def kinds(vocabulary, seed):
    rows = bell(6, vocabulary, seed)  # 0: as drawn
    rows[1] *= 0.01  # flat
    rows[2, vocabulary // 3 :: vocabulary // 9] += 14  # a few stand out
    rows[3, vocabulary - 2] = 75  # one has all the mass
    rows[4] = rows[4].round()  # many as likely as the least likely of the set
    rows[5] = torch.where(rows[5] < 1, -torch.inf, rows[5])
    return rows
"""

SAME = """
seed = 0
for top_p, top_k in ((0.1, 0), (0.3, 5), (0.95, 0), (1.0, 0), (1.0, 5)):
    seed += 1
    dtype, temperature = (torch.bfloat16, torch.float32)[seed % 2], (0.7, 1.0, 1.6)[seed % 3]
    logits = kinds(9005, seed).to(dtype)
    ours, plain = ours_and_plain(logits, Sampling(temperature, top_p, top_k))
    assert torch.equal(ours, plain), (top_p, top_k, dtype, ours, plain)
print("same")
"""

SHAPES = """
for vocabulary in (1, 37, 1100, 4096):
    for top_p in (0.6, 1.0):
        ours, plain = ours_and_plain(bell(2, vocabulary, vocabulary), Sampling(0.8, top_p))
        assert torch.equal(ours, plain), (vocabulary, top_p)
logits, rule = kinds(5000, 9), Sampling(1.2, 0.9)
_, _, streams, steps = named(6)
whole = sample(logits, rule, streams, steps)[0]
wide = torch.cat([logits.flip(0), torch.full((6, 9), torch.nan)], 1)[:, :5000]  # other neighbours, rows further apart
assert torch.equal(sample(wide, rule, streams.flip(0), steps.flip(0))[0].flip(0), whole)
assert torch.equal(sample(logits[1:2], rule, streams[1:2], steps[1:2])[0], whole[1:2])
broken = bell(6, 5000, 3)
broken[0, 4999], broken[1, 3], broken[2], broken[3, :4990] = torch.nan, torch.inf, -torch.inf, -torch.inf
broken[4] = torch.nan
for rule in (Sampling(top_p=0.9), Sampling(0.7, 1.0, 5)):
    print(*sample(broken, rule, streams, steps)[1].int().tolist())
"""

MISSES = """
many = bell(24, 600, 4, 0.3)
many[:, ::50] += 3  # 12 tokens with a third of the mass
rule = Sampling(1.0, 0.35)
many_ours, plain = ours_and_plain(many, rule)
free = ours_and_plain(many, Sampling(1.0))[0]
assert torch.equal(many_ours, plain)
edge = torch.full((8, 600), -20.0)
edge[:, 40], edge[:, 41:51] = 3, 1  # ten as likely at the edge: the set has all or none of them
for top_p in (0.5, 0.4):
    ours, plain = ours_and_plain(edge, Sampling(1.0, top_p))
    assert torch.equal(ours, plain)
    print(int((ours != 40).sum()) > 0)
print(int((free != many_ours).sum()) > 8)
"""

PRUNED = """
logits = bell(4, 9005, 7)
logits[:, 17], logits[:, 8000], logits[3] = 20, 18.5, 0
_, _, streams, steps = named(4)
for rule in (Sampling(0.7, 0.95), Sampling(0.7)):
    found = plan(logits, rule, None, streams, steps)
    mass = ((logits - logits.amax(1, keepdim=True)) / rule.temperature).double().exp()
    largest, total, least, sure = found.facts.double().unbind(1)
    assert ((total / mass.sum(1) - 1).abs() < 1e-5).all()
    kept = torch.zeros(4, 9024).bool()
    for row in range(4):
        listed = found.listed[row, : found.counts[row]].tolist()
        assert listed == sorted(set(listed))
        for group in listed:
            kept[row, group * GROUP : (group + 1) * GROUP] = True
    assert (kept[:, :9005] | (mass < least[:, None])).all()
    below = (mass * (mass < least[:, None])).sum(1)
    if rule.top_p < 1:
        assert (below < 0.05 * mass.sum(1)).all() and (least < 1).all()
    else:
        assert (least < sure * 2.0**-33).all()
    assert torch.equal(*ours_and_plain(logits, rule))
    print(*found.counts.tolist())
"""


@pytest.fixture(scope="module")
def told():
    """What each program prints, or why it failed; one process runs them all, for each would take seconds to start."""
    return each_interpreted(BOTH, same=SAME, shapes=SHAPES, misses=MISSES, pruned=PRUNED)


def test_the_kernels_draw_the_tokens_of_the_plain_way(told):
    assert told["same"] == "same"


def test_any_vocabulary_any_neighbours_and_bad_logits_flagged(told):
    assert told["shapes"].splitlines() == ["0 0 0 1 0 1"] * 2


def test_a_winner_outside_the_top_p_set_is_drawn_again_and_equals_at_its_edge_belong(told):
    assert told["misses"].split() == ["True", "False", "True"]


def test_no_noise_is_made_for_tokens_that_cannot_win(told):
    by_mass, by_score = (list(map(int, line.split())) for line in told["pruned"].splitlines())
    assert by_mass[:3] == [2, 2, 2] and by_mass[3] == 282  # of 282 groups; a flat row keeps all
    assert all(0 < kept < 282 for kept in by_score[:3]) and by_score[3] == 282


@pytest.mark.parametrize(("capability", "kind"), [(80, "*bf16"), (89, "*fp32"), (90, "*bf16")])  # 89 has least memory
def test_the_kernels_compile_and_fit(capability, kind):
    from raybt.engine.kernels import sample as kernels

    numbers = ["stride", "vocabulary", "groups", "chunks", "per_step"]
    types = dict.fromkeys(numbers, "i32") | dict.fromkeys(("sharp", "spare", "top_p"), "fp32")
    types |= dict.fromkeys(("highest", "masses", "tops", "facts", "scores"), "*fp32")
    types |= dict.fromkeys(("listed", "counts", "theirs"), "*i32") | {"streams": "*i64", "steps": "*i64"}
    types |= {"logits_ptr": kind, "usable": "*i1", "tokens": "*i64"} | ({"floors": "*fp32"} if kind == "*fp32" else {})
    constants = {name: getattr(kernels, name) for name in ("GROUP", "CHUNK", "TILE", "PARTS", "STEPS")}
    constants |= {"GROUPS": 8192} | ({"floors": None} if kind == "*bf16" else {})
    warps = {kernels._survey: {}, kernels._plan: {"num_warps": 16, "maxnreg": 64}, kernels._race: {}}
    for kernel, options in (warps | {kernels._settle: {"num_warps": 8}}).items():
        own = {name: types[name] for name in kernel.arg_names if name in types}
        fixed = {name: constants[name] for name in kernel.arg_names if name in constants}
        assert compiled(kernel, own, fixed, capability, **options).metadata.shared <= CARDS[capability]
