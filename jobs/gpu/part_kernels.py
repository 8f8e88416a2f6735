"""Every Triton kernel against plain torch on the same device, at the real model's shapes; the draw's frequencies."""

from typing import Any

import torch
from gpu.found import Found
from gpu.rows import GOLDEN
from torch import Tensor

from raybt.engine.kernels import INTERPRETED
from raybt.engine.noise import exponential, words
from raybt.engine.request import Sampling

BOUND = {torch.bfloat16: 2e-2, torch.float32: 1e-4}
"""Of the largest difference, relative to the largest number. bf16 has 8 bits; a sum's order decides the last."""
RULES = (Sampling(0.7, 0.95), Sampling(1.0), Sampling(0.8, 0.6), Sampling(0.7, 0.95, top_k=20))


class Sizes:
    """quick: what Triton's interpreter does in seconds."""

    def __init__(self, quick: bool):
        self.slots, self.length, self.heads, self.kv, self.dim = (3, 80, 4, 2, 16) if quick else (256, 700, 12, 2, 128)
        self.width, self.middle, self.vocabulary = (64, 96, 1100) if quick else (1536, 8960, 151936)
        self.small, self.streams, self.steps = (24, 12, 1) if quick else (64, 4096, 64)
        self.rules = RULES[:1] if quick else RULES


def numbers(device: str, dtype: torch.dtype, *shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    made = torch.randn(*shape, generator=torch.Generator(device).manual_seed(seed), device=device)
    return (scale * made).to(dtype)


def compare(found: Found, kernel: str, ours: Tensor, plain: Tensor, dtype: torch.dtype, **about: Any) -> None:
    difference = float((ours.double() - plain.double()).abs().max())
    relative = difference / max(float(plain.double().abs().max()), 1e-30)
    found.add("kernels", kernel=kernel, type=str(dtype)[6:], **about, largest=difference, relative=relative,
              ok=relative <= BOUND[dtype])  # fmt: skip


def attention(found: Found, device: str, size: Sizes, dtype: torch.dtype) -> None:
    from raybt.engine.kernels.attend import attend_slots

    group = size.heads // size.kv
    keys, values = numbers(device, dtype, 2, size.slots, size.length, size.kv, size.dim).transpose(2, 3)
    query = numbers(device, dtype, size.slots, size.heads, 1, size.dim, seed=1)
    positions = torch.linspace(0, size.length - 1, size.slots, device=device).long()
    ahead = torch.arange(size.length, device=device)
    for softcap, width in ((None, None), (5.0, 20)):
        first = (positions - ((width or size.length) - 1)).clamp(min=0)
        ours = attend_slots(query, keys, values, positions, first, None, softcap)
        seen = (ahead <= positions[:, None]) & (ahead >= first[:, None])
        scores = query.float() @ keys.float().repeat_interleave(group, 1).transpose(2, 3) * size.dim**-0.5
        scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
        weights = scores.masked_fill(~seen[:, None, None], -torch.inf).softmax(-1)
        plain = (weights @ values.float().repeat_interleave(group, 1)).transpose(1, 2)
        compare(found, "attend_slots", ours, plain, dtype, softcap=softcap, sliding=width)


def norms(found: Found, device: str, size: Sizes, dtype: torch.dtype) -> None:
    from raybt.engine.kernels.norm import add_norm

    x, before = (numbers(device, dtype, size.slots, 1, size.width, seed=seed, scale=3) for seed in (0, 1))
    weight = 1 + numbers(device, dtype, size.width, seed=2, scale=0.1)
    for summed in (False, True):
        normed, total = add_norm(x, before if summed else None, weight, 1e-6)
        plain = x + before if summed else x
        exact = plain.float() * torch.rsqrt(plain.float().pow(2).mean(-1, keepdim=True) + 1e-6)
        compare(found, "add_norm", normed, weight * exact.to(dtype), dtype, summed=summed)
        if summed:
            compare(found, "add_norm's sum", total, plain, dtype)


def gates(found: Found, device: str, size: Sizes, dtype: torch.dtype) -> None:
    from raybt.engine.kernels.gated import silu_product

    both = numbers(device, dtype, size.slots, 1, 2 * size.middle, scale=2)
    gate, up = both.chunk(2, -1)
    compare(found, "silu_product", silu_product(both), torch.nn.functional.silu(gate) * up, dtype)


def rotations(found: Found, device: str, size: Sizes, dtype: torch.dtype) -> None:
    from raybt.engine.kernels import rotate
    from raybt.engine.rotary import usual

    def one(heads: int, seed: int) -> Tensor:
        return numbers(device, dtype, size.slots, 1, heads * size.dim, seed=seed).view(
            size.slots, 1, heads, size.dim
        ).transpose(1, 2)  # fmt: skip

    query, key, value = one(size.heads, 0), one(size.kv, 1), one(size.kv, 2)
    positions = torch.linspace(0, size.length - 1, size.slots, device=device).long()
    angle = positions[:, None, None] * 10000.0 ** (-torch.arange(size.dim // 2, device=device) / (size.dim // 2))
    cos, sin = (torch.cat([part, part], -1).to(dtype) for part in (angle.cos(), angle.sin()))
    places = torch.arange(size.slots, device=device) * size.length + positions
    turned, key_turned = usual(query, key, cos, sin)
    for fused in (True, False):
        store = torch.zeros(2, size.slots, size.length, size.kv, size.dim, dtype=dtype, device=device)
        expected = torch.zeros_like(store).flatten(1, 2)
        expected[0, places], expected[1, places] = (key_turned if fused else key)[:, :, 0], value[:, :, 0]
        if fused:
            ours = rotate.rotate_and_write(query, key, value, cos, sin, store[0], store[1], places)
            compare(found, "rotate_and_write's queries", ours, turned, dtype)
        else:
            rotate.write(key, value, store[0], store[1], places)
        compare(found, "rotate_and_write" if fused else "write", store.flatten(1, 2), expected, dtype)


def actions(found: Found, device: str, size: Sizes, dtype: torch.dtype) -> None:
    """What hooks do, y = gain x + (push + pull (x.v)) v, for a whole output and for heads side by side."""
    from raybt.engine.kernels.act import act

    for heads in (1, size.heads):
        width = size.width if heads == 1 else size.heads * size.dim
        x = numbers(device, dtype, size.slots, width)
        gain, push, pull = (numbers(device, torch.float32, heads, size.slots, seed=s, scale=0.5) for s in (1, 2, 3))
        pull /= width
        gain[:, ::2], push[:, ::2], pull[:, ::2] = 1, 0, 0  # every other row untouched
        bank = numbers(device, torch.float32, 7, width // heads, seed=4)
        vector = torch.arange(size.slots, device=device).remainder(3).expand(heads, -1).contiguous()
        spread, draws = torch.full_like(vector, 4), torch.arange(size.slots, device=device) * 31
        gate = torch.arange(size.slots, device=device) % 3 != 0
        touched = torch.zeros(heads, size.slots, dtype=torch.int32, device=device)
        for directed in (False, True):
            ours = act(x, gain, push, pull, vector, spread, draws, gate, bank, touched, heads, directed)
            parts = x.float().view(size.slots, heads, -1)
            v = bank[(vector + draws % spread).T]  # [slots, heads, part]
            along = (parts * v).sum(-1, keepdim=True)
            y = parts * gain.T[..., None]
            y = y + (push.T[..., None] + pull.T[..., None] * along) * v if directed else y
            plain = torch.where(gate[:, None], y.reshape(x.shape).to(dtype), x)
            compare(found, "act", ours, plain, dtype, heads=heads, directed=directed)
            changing = (gain != 1) | ((push != 0) | (pull != 0) if directed else False)
            right = bool((touched == (changing & gate)).all())
            found.add("counts", heads=heads, directed=directed, ok=right)
            touched.zero_()


def draws(found: Found, device: str, size: Sizes, dtype: torch.dtype) -> None:
    """The kernel's tokens against `choose` with the same noise. Where two race neck and neck, rounding decides."""
    from raybt.engine.kernels.sample import sample
    from raybt.engine.sampling import choose

    rows = min(size.slots, 64)
    logits = numbers(device, dtype, rows, size.vocabulary, scale=2.5)
    streams, steps = [(i * GOLDEN + 5) % 2**64 for i in range(rows)], [i * 7 for i in range(rows)]
    noise = torch.cat([exponential(words(s, t, size.vocabulary)) for s, t in zip(streams, steps, strict=True)])
    for rule in size.rules:
        tokens, usable = sample(logits, rule, signed(streams, device), torch.tensor(steps, device=device))
        plain, _ = choose(logits.float().clone(), rule, noise.to(device, copy=True))
        unlike = int((tokens != plain).sum())
        found.add("draws", type=str(dtype)[6:], rule=str(rule), rows=rows, unlike=unlike,
                  ok=bool(usable.all()) and unlike <= rows // 32)  # fmt: skip
    broken = logits[:3].clone()
    broken[0, 7], broken[1, 9] = float("nan"), float("inf")
    flags = sample(broken, RULES[0], signed(streams[:3], device), torch.zeros(3, dtype=torch.long, device=device))[1]
    found.add("flags", seen=flags.tolist(), ok=flags.tolist() == [False, False, True])


def signed(streams: list[int], device: str) -> Tensor:
    return torch.tensor([stream - 2**64 if stream >> 63 else stream for stream in streams], device=device)


def frequencies(found: Found, device: str, size: Sizes) -> None:
    """How often each token of a small vocabulary comes, over many streams and steps, against its exact probability."""
    from raybt.engine.kernels.sample import sample

    logits = numbers(device, torch.float32, 1, size.small, scale=1.5).expand(size.streams, -1).contiguous()
    streams = signed([(i * GOLDEN + 11) % 2**64 for i in range(size.streams)], device)
    for rule in size.rules:
        counts, total = torch.zeros(size.small, dtype=torch.float64), size.streams * size.steps
        for step in range(size.steps):
            tokens, _ = sample(logits, rule, streams, torch.full_like(streams, step))
            counts += torch.bincount(tokens, minlength=size.small).cpu()
        exact = probabilities(logits[0].double().cpu(), rule)
        kept = exact > 0
        spread = (total * exact * (1 - exact)).sqrt()[kept].clamp(min=1e-9)
        z = ((counts - total * exact)[kept] / spread).abs().max()
        chi = float(((counts - total * exact)[kept] ** 2 / (total * exact)[kept]).sum())
        degrees = int(kept.sum()) - 1
        outside = int(counts[~kept].sum())
        found.add("frequencies", rule=str(rule), draws=total, tokens=degrees + 1, largest_z=float(z), chi_square=chi,
                  chi_square_z=(chi - degrees) / max(2 * degrees, 1) ** 0.5, outside=outside,
                  ok=float(z) < 5 and outside == 0)  # fmt: skip


def probabilities(logits: Tensor, rule: Sampling) -> Tensor:
    """Exact, by sorting: temperature, then top-k, then the smallest set of mass top_p."""
    p = (logits / rule.temperature).softmax(-1)
    order = p.argsort(descending=True)
    if rule.top_k:
        p[order[rule.top_k :]] = 0
        p /= p.sum()
    before = p[order].cumsum(0) - p[order]
    p[order[before >= rule.top_p]] = 0
    return p / p.sum()


def run(found: Found, device: str, quick: bool) -> None:
    if INTERPRETED:
        patch_interpreter()
    size = Sizes(quick)
    types = (torch.float32,) if INTERPRETED else (torch.bfloat16, torch.float32)  # it has no bf16 products
    for dtype in types:
        for work in (attention, norms, gates, rotations, actions, draws):
            name = f"{work.__name__}, {str(dtype)[6:]}"
            found.section(name, lambda w=work, d=dtype: w(found, device, size, d), 30)
    found.section("frequencies", lambda: frequencies(found, device, size), 30)
    rows = found.rows("kernels")
    if rows:
        worst = max(rows, key=lambda row: row["relative"] / BOUND[getattr(torch, row["type"])])
        found.headline(f"{len(rows)} comparisons; nearest to its bound: {worst['kernel']} {worst['type']} "
                       f"{worst['relative']:.1e}")  # fmt: skip
    zs = [row["largest_z"] for row in found.rows("frequencies")]
    if zs:
        found.headline(f"draws: largest z of a token's frequency {max(zs):.1f}")


def patch_interpreter() -> None:
    """Triton's interpreter up to 3.6 takes a loop's bounds from arrays of one element by `int`; NumPy 2.5 refuses."""
    from triton.runtime import interpreter

    stock: Any = interpreter._patch_lang_tensor

    def patched(tensor: Any, *scope: Any) -> None:
        stock(tensor, *scope)
        tensor.__index__ = lambda self: self.handle.data.item()

    interpreter._patch_lang_tensor = patched
