"""raybt's decode step on a GPU against the least that the card allows: one run, one table.

    python jobs/bench_gpu.py [--json FILE]

DeepSeek-R1-Distill-Qwen-1.5B's shape in bf16 with random weights whose next tokens are a language model's to guess.
The floor of a step is worked out part by part from a copy's and a product's speed, measured here; see gpu/floor.py for
what it counts. Needs torch and transformers, neither Ray nor datasets. `--device cpu --quick` runs the same code on a
tiny shape; `gpu_day.py` measures far more, in parts.
"""

import json
from pathlib import Path
from typing import Any

import torch
import typer
from gpu.floor import floor_seconds, shape_of
from gpu.plain import rivals
from gpu.rows import random_model
from gpu.timing import filled, speeds_of, step_seconds, terms_on
from rich.console import Console
from rich.table import Table

from raybt.engine.anatomy import Anatomy
from raybt.engine.kernels import HAVE_TRITON

CONTEXT = 350  # tokens that a slot attends to while steps are timed, on average
LITERAL = {"rows": 4_800, "tokens": 512}
"""configs/phase2_literal.yaml, the study's two sweeps: 120 problems, 4 samples, 10 conditions, and its longest row."""
LONG = 2048
"""configs/phase2.yaml's longest row. How many it has, its own stages decide; `raybt plan` counts those known so far."""
console = Console(width=110)


def timed(anatomy: Anatomy, slots: int, sites: str, captured: bool, context: int, steps: int) -> float:
    """Seconds of a decode step with every slot in use."""
    decoder = filled(anatomy, slots, context, steps, [terms_on(anatomy, sites)], capture=captured)
    try:
        return step_seconds(decoder, steps)
    finally:
        decoder.close()


def main(
    device: str = typer.Option("cuda"),
    quick: bool = typer.Option(False, "--quick", help="a tiny shape and few steps: shows that the code runs"),
    json_file: Path | None = typer.Option(None, "--json", help="write the numbers here"),
) -> None:
    if device.startswith("cuda") and not torch.cuda.is_available():
        console.print(
            "bench_gpu needs a CUDA GPU that torch can see; got none. Fix: --device cpu --quick shows the code run"
        )
        raise typer.Exit(2)
    if quick and device == "cpu":
        torch.set_num_threads(1)  # on tiny shapes threads only wait for one another
    anatomy = random_model(device, quick)
    context, steps = (24, 4) if quick else (CONTEXT, 64)
    speeds, shape = speeds_of(anatomy.device, quick), shape_of(anatomy.model)
    name = torch.cuda.get_device_name() if anatomy.device.type == "cuda" else "CPU"
    console.print(
        f"{name}: a copy moves {speeds.bytes_per_second / 1e9:,.0f} GB/s, a bf16 product makes "
        f"{speeds.operations_per_second / 1e12:,.1f} TFLOP/s; kernels: {'Triton' if HAVE_TRITON else 'plain torch'}"
    )
    found = []
    table = Table("slots", "sites on", "step", "ms a step", "tokens / s", "share of the floor")
    for slots in (16, 32) if quick else (64, 128, 256, 512):
        for sites in ("none", "one", "all"):
            for captured in (False, True) if anatomy.device.type == "cuda" else (False,):
                seconds = timed(anatomy, slots, sites, captured, context, steps)
                share = floor_seconds(shape, slots, context, speeds) / seconds
                how = "captured" if captured else "eager"
                found.append({"slots": slots, "sites": sites, "step": how, "ms": 1e3 * seconds,
                              "tokens_per_second": slots / seconds, "share_of_floor": share})  # fmt: skip
                table.add_row(str(slots), sites, how, f"{1e3 * seconds:.2f}", f"{slots / seconds:,.0f}", f"{share:.0%}")
    console.print(table)
    best = max(found, key=lambda row: row["tokens_per_second"])
    plain: dict[str, Any] = {}
    rivals(anatomy, 8 if quick else 64, plain.__setitem__)
    for key, value in plain.items():
        console.print(f"({key}) {value:,.0f} tokens/s; raybt at its best {best['tokens_per_second'] / value:,.0f}x")
    seconds = LITERAL["rows"] * LITERAL["tokens"] / best["tokens_per_second"]
    console.print(
        f"phase2_literal.yaml, {LITERAL['rows']:,} rows of at most {LITERAL['tokens']} tokens: {seconds:,.0f} s here; "
        f"phase2.yaml: {1000 * LONG / best['tokens_per_second']:,.0f} s for each 1,000 rows of at most {LONG} tokens"
    )
    if json_file:
        result = {"device": name, "copy_bytes_per_second": speeds.bytes_per_second,
                  "product_operations_per_second": speeds.operations_per_second, "steps": found, "rivals": plain,
                  "phase2": seconds}  # fmt: skip
        json_file.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    typer.run(main)
