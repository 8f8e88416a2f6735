"""Are the numbers right: logits against transformers' own and against the CPU's, in fp32 and bf16; and whether slots,
order and neighbours change a row's tokens."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache

import torch
from gpu.found import Found
from gpu.rows import GOLDEN, RULE, bank, conditions, lengths, mixed, prompts, random_model, shipped_prompts
from torch import Tensor

from raybt.engine.anatomy import Anatomy, dissect
from raybt.engine.decode import Decoder
from raybt.engine.load import load_model
from raybt.engine.request import Request
from raybt.engine.score import forced_logits
from raybt.toy import MODEL_DIR

FP32, BF16 = 1e-3, 1.1
"""Most that fp32 logits may differ by, relative to the largest; most that bf16's distance from fp32's may be, over
transformers' own."""
Tokens = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Texts:
    """Untouched rows, and the tokens that each is made to write."""

    rows: list[Request]
    tokens: Tokens


def written(anatomy: Anatomy, rows: list[Request], slots: int) -> Tokens:
    decoder = Decoder(anatomy, RULE, slots, max(len(r.prompt) + r.max_new_tokens for r in rows), bank(anatomy))
    try:
        done = list(decoder.run(rows))
    finally:
        decoder.close()
    errors = [f"{one.key}: {one.error}" for one in done if one.error]
    if errors:
        raise RuntimeError(f"{len(errors)} of {len(done)} rows failed, first {errors[0]}")
    return {one.key: one.token_ids for one in done}


@torch.inference_mode()
def stock(anatomy: Anatomy, texts: Texts) -> dict[str, Tensor]:
    """transformers' logits where each row's tokens were written, [tokens, vocabulary] each."""
    found = {}
    for row in texts.rows:
        tokens = texts.tokens[row.key]
        ids = torch.tensor([row.prompt + tokens[:-1]], device=anatomy.device)
        found[row.key] = anatomy.model(input_ids=ids, use_cache=False).logits[0, len(row.prompt) - 1 :]
    return found


def forced(anatomy: Anatomy, fusion: str, texts: Texts, slots: int) -> dict[str, Tensor]:
    return forced_logits(replace(anatomy, fusion=fusion), texts.rows, texts.tokens, slots)


def pairs(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    assert set(ours) == set(plain)
    return ((ours[key].float(), plain[key].float().to(ours[key].device)) for key in plain)


def relative(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> float:
    """Largest difference, relative to the largest logit."""
    largest = max(float(b.abs().max()) for _, b in pairs(ours, plain))
    return max(float((a - b).abs().max()) for a, b in pairs(ours, plain)) / largest


def distance(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> float:
    """RMS over all logits."""
    total = sum(float((a - b).double().pow(2).sum()) for a, b in pairs(ours, plain))
    return (total / sum(part.numel() for part in plain.values())) ** 0.5


def flips(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> float:
    """Share of places at which the likeliest token is another."""
    unlike = sum(int((a.argmax(-1) != b.argmax(-1)).sum()) for a, b in pairs(ours, plain))
    return unlike / sum(len(part) for part in plain.values())


def at_the_cpu() -> Anatomy:
    return load_model(str(MODEL_DIR), dtype="float32", device="cpu")


class Right:
    def __init__(self, found: Found, device: str, quick: bool):
        self.found, self.device, self.quick = found, device, quick
        self.slots, self.count, self.new = (16, 6, 6) if quick else (64, 24, 48)
        self.model, self.texts = cache(self._model), cache(self._texts)
        self.on_cpu = cache(lambda: self.model("shipped", "float32") if device == "cpu" else at_the_cpu())
        self.plain = cache(lambda name, dtype: stock(self.model(name, dtype), self.texts(name)))

    def _model(self, name: str, dtype: str) -> Anatomy:
        if name == "shipped":
            return load_model(str(MODEL_DIR), dtype=dtype, device=self.device)
        if dtype == "bfloat16":
            return random_model(self.device, self.quick)
        return dissect(deepcopy(self.model("random", "bfloat16").model).float())

    def _texts(self, name: str) -> Texts:
        if name == "shipped":
            rows = mixed(shipped_prompts(self.count), [()], [self.new] * self.count)
            return Texts(rows, written(self.model(name, "float32"), rows, self.slots))
        vocabulary = self.model(name, "bfloat16").vocabulary
        rows = mixed(prompts(self.count // 3, vocabulary, 20, 300), [()], [self.new // 2] * (self.count // 3))
        drawn = prompts(len(rows), vocabulary, self.new // 2, self.new // 2, seed=1)
        return Texts(rows, {row.key: tokens for row, tokens in zip(rows, drawn, strict=True)})

    def fp32(self, name: str, fusion: str) -> None:
        ours = forced(self.model(name, "float32"), fusion, self.texts(name), self.slots)
        worst = relative(ours, self.plain(name, "float32"))
        self.found.add("fp32", model=name, fusion=fusion, relative=worst, bound=FP32, ok=worst <= FP32)

    def bf16(self, name: str, fusion: str) -> None:
        exact, stocks = self.plain(name, "float32"), self.plain(name, "bfloat16")
        ours = forced(self.model(name, "bfloat16"), fusion, self.texts(name), self.slots)
        far = {"ours": distance(ours, exact), "transformers": distance(stocks, exact)}
        ratio = far["ours"] / far["transformers"]
        turned = {"flips": flips(ours, exact), "flips_transformers": flips(stocks, exact)}
        self.found.add("bf16", model=name, fusion=fusion, **far, ratio=ratio, bound=BF16, **turned, ok=ratio <= BF16)

    def interventions(self, fusion: str) -> None:
        """Every kind of intervention at all kinds of positions: this device against the CPU, whose path is tested."""
        here, there = self.model("shipped", "float32"), self.on_cpu()
        limits = [self.new] * len(conditions(here)) * 3
        rows = mixed(shipped_prompts(3), conditions(here), limits)
        texts = self.texts("shipped")
        tokens = {row.key: texts.tokens[texts.rows[i % self.count].key] for i, row in enumerate(rows)}
        triggers = tuple({(one[len(one) // 2],) for one in tokens.values()})
        logits = [
            forced_logits(replace(anatomy, fusion=way), rows, tokens, self.slots, bank(anatomy), triggers)
            for anatomy, way in ((here, fusion), (there, "none"))
        ]
        worst = relative(*logits)
        self.found.add("interventions", fusion=fusion, relative=worst, bound=FP32, ok=worst <= FP32)

    def neighbours(self, name: str, dtype: str) -> None:
        anatomy, slots = self.model(name, dtype), self.slots
        texts = shipped_prompts(8) if name == "shipped" else prompts(8, anatomy.vocabulary, 20, 100)
        rows = mixed(texts, conditions(anatomy), lengths(slots, self.new, self.new), plain=True)
        usual = written(anatomy, rows, slots)
        others = [replace(row, key=f"other-{row.key}", stream=row.stream ^ GOLDEN) for row in rows]
        alone: Tokens = {}
        for row in rows[:: max(1, slots // 8)]:
            alone |= written(anatomy, [row], slots)
        ways = {
            "other order": written(anatomy, rows[::-1], slots),
            "other neighbours": written(anatomy, others[::2] + rows, slots),
            f"{4 * slots} slots": written(anatomy, rows, 4 * slots),
            "alone": alone,
        }
        for way, tokens in ways.items():
            shared = [key for key in usual if key in tokens]
            unlike = sum(tokens[key] != usual[key] for key in shared)
            share = unlike / len(shared)
            self.found.add("neighbours", model=name, type=dtype, way=way, rows=len(shared), share_unlike=share)


def run(found: Found, device: str, quick: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    right = Right(found, device, quick)
    for fusion in ("none", "kernels"):
        found.section(f"fp32, shipped, {fusion}", lambda f=fusion: right.fp32("shipped", f), 30)
        found.section(f"bf16, shipped, {fusion}", lambda f=fusion: right.bf16("shipped", f), 30)
        found.section(f"interventions, {fusion}", lambda f=fusion: right.interventions(f), 40)
    found.section("neighbours, fp32", lambda: right.neighbours("shipped", "float32"), 40)
    found.section("neighbours, bf16", lambda: right.neighbours("shipped", "bfloat16"), 40)
    for fusion in ("none", "kernels"):
        found.section(f"fp32, random, {fusion}", lambda f=fusion: right.fp32("random", f), 30)
        found.section(f"bf16, random, {fusion}", lambda f=fusion: right.bf16("random", f), 30)
    found.section("neighbours, bf16, random", lambda: right.neighbours("random", "bfloat16"), 40)
    if not quick:  # a minute on a CPU
        found.section("fp32, shipped, compiled", lambda: right.fp32("shipped", "compiled"), 60, needs=25)
    exact = [row["relative"] for row in found.rows("fp32") + found.rows("interventions")]
    ratios = [row["ratio"] for row in found.rows("bf16")]
    if exact and ratios:
        found.headline(f"fp32 logits within {max(exact):.1e} of the largest (bound {FP32:.0e}); "
                       f"bf16 {max(ratios):.2f} of transformers' distance (bound {BF16})")  # fmt: skip
    rows = found.rows("neighbours")
    for name, dtype in dict.fromkeys((row["model"], row["type"]) for row in rows):
        shares = [f"{r['way']} {r['share_unlike']:.0%}" for r in rows if (r["model"], r["type"]) == (name, dtype)]
        found.headline(f"rows whose tokens change, {name} {dtype}: {', '.join(shares)}")
