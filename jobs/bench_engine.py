"""How fast raybt's engine writes under many conditions, beside the other ways to do it: one run, one table.

    python jobs/bench_engine.py [--models toy,70m] [--rows 2048] [--json FILE]

(A) `generate` prompt by prompt with hooks per condition; (B) `generate` on left-padded batches, one condition each;
(C) transformers' continuous batching, without interventions; (D) raybt; (E) nnsight, every condition an invoke of one
batch (`pip install raybt[bench]`). E_even is nnsight's best case: rows of equal length, greedy.

fp32, one thread, CPU seconds. No row ends early: each writes the length drawn for it, geometric with mean 64 and capped
at 128, whoever writes it. D runs all rows, its tail counted; the others run seeded subsets of at least 1,500 tokens.
They take turns, twice, for the speed of a machine that others use drifts.
"""

import json
import random
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import typer
from ours import Ours
from rich.console import Console
from rich.table import Table
from rivals import Measured, Row, batched, continuous, invokes, one_by_one

TOY = Path(__file__).parents[1] / "raybt" / "toy" / "model"
TEMPERATURE, MEAN, CAP, SLOTS, ENOUGH = 0.7, 64, 128, 64, 1500
TURNS = 2
CONDITIONS = (
    (),
    (("mlp.1", 0.0),),
    (("mlp.3", 0.0),),
    (("attn.2", 0.0),),
    (("attn.4", 0.5),),
    (("mlp.2", 0.5),),
    (("attn.1", 0.5), ("mlp.4", 0.5)),
    (("mlp.0", 0.9),),
)
console = Console()


def load(name: str) -> Any:
    """The shipped model, or a random Qwen2 of 70M parameters whose next-token entropy is a language model's."""
    from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

    if name == "toy":
        model: Any = AutoModelForCausalLM.from_pretrained(TOY, dtype=torch.float32)
    else:
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=16384,
                hidden_size=640,
                intermediate_size=2560,
                num_hidden_layers=10,
                num_attention_heads=10,
                num_key_value_heads=2,
                max_position_embeddings=1024,
                tie_word_embeddings=True,
            )
        )
        model.model.norm.weight.data.fill_(10.0)  # random logits are flat; this peaks them
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    return model.eval().requires_grad_(False)


def workload(count: int, prompts: int = 16) -> list[Row]:
    """Rows over 8 conditions and some prompts; their order is fixed before their lengths are drawn."""
    dice = random.Random(0)
    texts = [tuple(dice.randrange(5, 500) for _ in range(dice.randrange(24, 49))) for _ in range(prompts)]
    cells = [(p, c) for p in range(prompts) for c in range(len(CONDITIONS))]
    order = [cells[index % len(cells)] for index in range(count)]
    order.sort(key=lambda cell: cell[0])  # prompt by prompt, as raybt plans its work
    lengths = [min(CAP, 1 + int(dice.expovariate(1 / MEAN))) for _ in order]
    return [Row(texts[p], c, CONDITIONS[c], n) for (p, c), n in zip(order, lengths, strict=True)]


def subset(rows: list[Row], least: int = ENOUGH, seed: int = 1) -> list[Row]:
    """Random rows that together write at least so many tokens."""
    shuffled = random.Random(seed).sample(rows, len(rows))
    chosen: list[Row] = []
    while shuffled and sum(row.length for row in chosen) < least:
        chosen.append(shuffled.pop())
    return chosen


def groups(rows: list[Row], each: int, seed: int = 2) -> list[list[Row]]:
    """For every condition `each` random rows of it."""
    dice = random.Random(seed)
    by_condition = [[row for row in rows if row.condition == c] for c in range(len(CONDITIONS))]
    return [dice.sample(part, min(each, len(part))) for part in by_condition]


def even() -> list[list[Row]]:
    """nnsight's best case: 6 conditions of 16 rows, prompts and lengths equal."""
    texts = [tuple(5 + (i * 37 + j * 11) % 400 for j in range(32)) for i in range(16)]
    return [[Row(text, c, CONDITIONS[c], 64) for text in texts] for c in range(6)]


def agree(model: Any, rows: list[Row]) -> str:
    """Greedy tokens of A, B and D on a few rows: where they part, two logits were nearly one."""
    few = [row for part in groups(rows, 2) for row in part]
    a, b = [], []
    one_by_one(model, few, 0.0, a)
    batched(model, [[row] for row in few], 0.0, b)
    d = Ours(model, few, 16, 0.0).advance().tokens
    same = sum(x == y == z for x, y, z in zip(a, b, d, strict=True))
    return f"greedy tokens of A, B and D equal in {same} of {len(few)} rows"


def nnsight_of(model: Any, batch: list[list[Row]], temperature: float) -> Measured | None:
    if find_spec("nnsight") is None:
        return None
    from transformers import AutoTokenizer

    return invokes(model, AutoTokenizer.from_pretrained(TOY, padding_side="left"), batch, temperature)


def measure(name: str, count: int) -> dict[str, Any]:
    """Everything the table says about one model. What leaves hooks on a model has a copy of its own."""
    model, copy, wrapped, rows = load(name), load(name), load(name), workload(count)
    console.print(
        f"\n[bold]{name}[/] {sum(p.numel() for p in model.parameters()) / 1e6:.1f}M parameters, {agree(copy, rows)}"
    )
    one_by_one(model, rows[:2], TEMPERATURE)  # warm
    ours = Ours(copy, rows, SLOTS, TEMPERATURE)
    parts: dict[str, list[Measured | None]] = {way: [] for way in "ABCE"}
    for turn in range(TURNS):
        parts["A"].append(one_by_one(model, subset(rows, ENOUGH // TURNS, turn), TEMPERATURE))
        parts["B"].append(batched(model, [groups(rows, SLOTS, turn)[1 + turn]], TEMPERATURE))
        parts["C"].append(continuous(model, subset(rows, 4 * ENOUGH, turn), TEMPERATURE, SLOTS))
        parts["E"].append(nnsight_of(wrapped, groups(rows, 96 // len(CONDITIONS), turn), TEMPERATURE))
        ours.advance((turn + 1) / TURNS)
    speeds = {way: total(measured) for way, measured in parts.items()} | {"D": ours.measured}
    theirs, ours_even = best_case(wrapped, copy)
    ratio = {way: ours.measured.speed / m.speed if (m := speeds[way]) else None for way in "ABCE"}
    ratio["E_even"] = ours_even.speed / theirs.speed if theirs else None
    show(speeds, ratio, ours.occupancy, ours.share, ours_even, theirs)
    return {"ratio": ratio, "occupancy": ours.occupancy, "share": ours.share,
            "tokens_per_cpu_second": {key: m.speed if m else None for key, m in speeds.items()}}  # fmt: skip


def best_case(wrapped: Any, copy: Any) -> tuple[Measured | None, Measured]:
    """nnsight and raybt where nnsight is at its best, in turns."""
    groups_of_rows = even()
    theirs, ours = [], []
    for _ in range(TURNS):
        theirs.append(nnsight_of(wrapped, groups_of_rows, 0.0))
        ours.append(Ours(copy, [row for part in groups_of_rows for row in part], 96, 0.0).advance().measured)
    mine = total(ours)
    assert mine is not None
    return total(theirs), mine


def total(parts: list[Measured | None]) -> Measured | None:
    """What was measured in several goes, as one; None where a way is not installed."""
    there = [part for part in parts if part is not None]
    return Measured(sum(p.tokens for p in there), sum(p.seconds for p in there)) if there else None


WAYS = {
    "A": "generate, prompt by prompt, hooks",
    "B": "generate, batches of one condition",
    "C": "continuous batching, no interventions",
    "D": "raybt",
    "E": "nnsight, invokes",
}


def show(speeds, ratio, occupancy, share, ours, theirs) -> None:
    table = Table("", "way", "tokens", "tokens / CPU s", "raybt is faster by")
    for key, way in WAYS.items():
        m = speeds[key]
        numbers = [f"{m.tokens:,}", f"{m.speed:,.1f}"] if m else ["", "not installed"]
        table.add_row(key, way, *numbers, f"{ratio[key]:.1f}x" if ratio.get(key) else "")
    if theirs:
        numbers = f"{theirs.tokens:,}", f"{theirs.speed:,.1f} (raybt {ours.speed:,.1f})"
        table.add_row("E_even", "nnsight, greedy, equal lengths", *numbers, f"{ratio['E_even']:.2f}x")
    console.print(table)
    parts = ", ".join(f"{part} {value:.1%}" for part, value in share.items())
    console.print(f"raybt: slot occupancy {occupancy:.3f}; of its time: {parts} (hooks are part of forward)")


def main(
    models: str = typer.Option("toy,70m", help="which models, with commas"),
    rows: int = typer.Option(2048, min=64, help="rows of the workload"),
    json_file: Path | None = typer.Option(None, "--json", help="write the numbers here"),
) -> None:
    torch.set_num_threads(1)
    console.print(
        f"torch {torch.__version__}, fp32, 1 thread, CPU seconds; {rows:,} rows, 8 conditions, {SLOTS} slots, "
        f"temperature {TEMPERATURE}, top_k 0, top_p 1"
    )
    found = {name: measure(name, rows) for name in models.split(",")}
    if json_file:
        json_file.write_text(json.dumps({"models": found}, indent=1))


if __name__ == "__main__":
    typer.run(main)
