"""The shipped configs of the study on a model of the study's size, without a GPU: does every stage run, in what memory?

    python jobs/rehearse_full_size.py [--config phase2_literal] [--shape tiny] [--keep FOLDER]

Makes a random model of DeepSeek-R1-Distill-Qwen-1.5B's exact shape, in bfloat16, in which onsets are planted, and runs
phase1, phase2 and phase2_literal on it as shipped, but for paths and for how much there is to do: the fewest problems,
samples, tokens, controls and events that give every stage a row. A stage without a row fails the job. What the model
writes means nothing. 3.5 GB of disk, ~10 GB of memory; an hour on two cores that multiply bfloat16 slowly.
`--shape tiny` runs the same on a narrow model.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import typer
from ran import Ran, raybt, stages
from random_r1 import SHAPES, random_r1
from rich.console import Console
from rich.table import Table

CONFIGS = Path(__file__).parents[1] / "configs"
NAMES = ("phase1", "phase2", "phase2_literal")
FEW = [
    *("problems.limit=8", "problems.select=0.7"),  # the half that selects has 6, that which confirms 2
    *("sampling.samples=1", "sampling.max_new_tokens=6"),
]
LESS = {
    "phase1": [
        *FEW,
        *("interventions.grids.targeted.controls=1", "interventions.grids.targeted.directions=1"),
        *("stages.lens.events=1", "stages.scan.events=4", "stages.heads.events=1"),
    ],
    "phase2": [
        *FEW,
        *("interventions.grids.subset_sweep.controls=1", "interventions.grids.subset_sweep.directions=1"),
        *("interventions.grids.half_way.controls=1", "interventions.grids.half_way.directions=1"),
        *("stages.scan.events=4", "stages.continuation.events=1"),
        *("stages.continuation.draws=1", "stages.continuation.max_new_tokens=4"),
    ],
    "phase2_literal": ["problems.limit=2", "sampling.samples=1", "sampling.max_new_tokens=6"],
}
"""Four events, for with fewer no site's effect is beyond chance, and what is found in a scan would be empty."""
console = Console(width=110, highlight=False)


def write_problems(file: Path) -> Path:
    """In GSM8K's form."""
    lines = [
        {
            "question": f"Ida has {n} pens and buys {m}. How many?",
            "answer": f"{n}+{m}=<<{n}+{m}={n + m}>>.\n#### {n + m}",
        }
        for n, m in zip(range(2, 10), range(9, 1, -1), strict=True)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def rehearse(name: str, folder: Path, slots: int, cpus: int) -> Ran:
    """Run one config as shipped, but for paths and amounts."""
    paths = [
        *(f"artifacts={folder}/artifacts", f"model.name={folder}/model", f"problems.name={folder}/gsm8k.jsonl"),
        *("replicas.gpus=0", f"replicas.slots={slots}", f"replicas.cpus={cpus}"),
    ]
    return raybt(CONFIGS / f"{name}.yaml", [*paths, *LESS[name]])


def tell(ran: Ran) -> list[str]:
    """Print what a run did and took; gives the stages without a row."""
    rows = ran.rows()
    table = Table("stage", "rows done", title=f"{ran.config.name}, {ran.config.model.dtype}", title_justify="left")
    for stage in stages(ran.config):
        table.add_row(stage, f"{rows[stage]:,}")
    console.print(table)
    memory = ", ".join(f"{who} {held / 2**30:.2f} GiB" for who, held in ran.memory.items())
    names = {"load_seconds": "to load", "prove_seconds": "to prove", "first_token_seconds": "to the first token"}
    seconds = ", ".join(f"{ran.starts[key]:.0f} s {what}" for key, what in names.items() if key in ran.starts)
    console.print(f"peak memory: {memory}\n{seconds or 'no replica started'}; {ran.seconds:.0f} s in all\n")
    return [stage for stage in stages(ran.config) if not rows[stage]]


def rehearse_all(names: list[str], folder: Path, shape: str, slots: int, cpus: int) -> list[str]:
    """Make the model, run the configs one after the other; gives what failed."""
    start = time.monotonic()
    random_r1(folder / "model", shape)
    write_problems(folder / "gsm8k.jsonl")
    size = sum(file.stat().st_size for file in (folder / "model").iterdir())
    console.print(f"{shape} model of {size / 1e9:.2f} GB made in {time.monotonic() - start:.0f} s\n")
    failures = []
    for name in names:
        ran = rehearse(name, folder, slots, cpus)
        failures += [f"{name}: stage {stage} has no row" for stage in tell(ran)]
        if ran.exit_code:
            failures.append(f"{name}: raybt ended with exit code {ran.exit_code}")
    return failures


def main(
    config: str = typer.Option(",".join(NAMES), help="which configs, with commas"),
    shape: str = typer.Option("full", help=" or ".join(SHAPES)),
    slots: int = typer.Option(16, min=16, help="rows written side by side"),
    cpus: int = typer.Option(os.cpu_count() or 1, min=1, help="threads of the replica"),
    keep: Path | None = typer.Option(None, help="work in this folder and leave it there; else in a temporary one"),
) -> None:
    names = config.split(",")
    if unknown := [name for name in (*names, shape) if name not in (*NAMES, *SHAPES)]:
        raise typer.BadParameter(f"{', '.join(unknown)}: configs are {', '.join(NAMES)}, shapes {', '.join(SHAPES)}")
    with tempfile.TemporaryDirectory(prefix="raybt-rehearsal-") as temporary:
        folder = (keep or Path(temporary)).resolve()
        failures = rehearse_all(names, folder, shape, slots, cpus)
    for failure in failures:
        console.print(failure)
    console.print("FAILED" if failures else "every stage ran")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    typer.run(main)
