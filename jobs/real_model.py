"""A real language model on real problems, in fp32 and in bf16: a small phase 1, and what the precision changes.

    python jobs/real_model.py --problems gsm8k.jsonl [--keep FOLDER]

SmolLM2-135M-Instruct (see smollm2.py) on problems in GSM8K's form, without a GPU: about a quarter of an hour on two
cores. The model is small: it solves few of the problems and hardly ever writes "Wait". So triggers are words that its
own baseline writes now and then, and nothing here is a finding about backtracking; it shows that every stage runs on
weights that somebody trained, and how far bf16 is from fp32.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import typer
import yaml
from ran import Ran, raybt
from side_by_side import console, show_conditions, show_greedy, show_rows, show_scans, show_speed
from smollm2 import fetch
from words import pick, shares

WORDS = (
    *("Wait", "Actually", "Hmm", "But", "However", "So", "Therefore", "Thus", "Hence", "Then", "Next", "Now", "First"),
    *("Second", "Finally", "Since", "Because", "Let", "Step", "Also", "Given", "Here", "Note", "Alternatively"),
)
PRECISIONS = ("float32", "bfloat16")
SHORT = {"float32": "fp32", "bfloat16": "bf16"}
TEMPLATE = "Solve the problem carefully.\nEnd with a single line: Final: <answer>\n\nProblem: {question}\n"


def settings(folder: Path, problems: Path, cpus: int) -> dict[str, Any]:
    """The baseline alone, every word a trigger: what the words are picked from."""
    return {
        "name": "fp32",
        "seed": 42,
        "artifacts": str(folder / "artifacts"),
        "model": {"name": str(folder / "model"), "dtype": "float32", "device": "cpu"},
        "problems": {
            "name": str(problems),
            "limit": 16,
            "shuffle_seed": 123,
            "select": 0.7,
            "fields": fields(problems),
        },
        "prompt": {"system": "You are a helpful assistant.", "template": TEMPLATE, "chat": True},
        "sampling": {"samples": 2, "max_new_tokens": 96, "temperature": 0.7, "top_p": 0.95},
        "triggers": {"strict": list(WORDS), "relaxed": [], "alternatives": []},
        "replicas": {"count": 1, "gpus": 0, "cpus": cpus, "slots": 32},
    }


def fields(problems: Path) -> dict[str, str | None]:
    with problems.open() as lines:
        return {"id": "id" if '"id"' in next(lines) else None, "question": "question", "answer": "answer"}


def study(base: dict[str, Any], chosen: list[str]) -> dict[str, Any]:
    """A small phase 1 with these triggers, and of phase 2 what happens at the onset's step alone."""
    others = [word for word in ("Wait", "But", "However") if word not in chosen]
    return base | {
        "triggers": {"strict": chosen, "relaxed": [], "alternatives": others},
        "interventions": {
            "subsets": {
                "found": {"from": "scan", "top": 3},
                "ranked": {"from": "scan", "top": 3, "qualified": False},
                "late_mlps": ["mlp.24-29"],
            },
            "grids": {
                "targeted": {"subsets": ["found", "ranked"], "controls": 1, "directions": 1, "problems": "confirm"},
                "sweep": {"subsets": ["late_mlps"], "scales": [0, 0.5], "problems": "confirm"},
            },
        },
        "stages": {
            "lens": {"kind": "lens", "events": 6, "per_problem": 1},
            "scan": {"kind": "scan", "events": 8, "per_problem": 1, "operations": ["zero"]},
            "heads": {"kind": "scan", "events": 4, "per_problem": 1, "operations": ["zero"],
                      "sites": ["head.4.*", "head.14.*", "head.24.*"]},
            "after": {"kind": "continuation", "subsets": ["ranked", "late_mlps"], "scales": [0, 0.5, 1], "events": 4,
                      "per_problem": 1, "draws": 2, "max_new_tokens": 16},
        },
    }  # fmt: skip


def greedy(base: dict[str, Any]) -> dict[str, Any]:
    """What the model writes where no draw decides."""
    return base | {"sampling": {"samples": 1, "max_new_tokens": 96, "greedy": True}}


def run(settings: dict[str, Any], folder: Path, name: str, dtype: str = "float32") -> Ran:
    """Write the config and run it as a user would. Ends the job where that fails."""
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    console.print(f"\n[bold]raybt run {file.name}[/] --set name={name} --set model.dtype={dtype}")
    ran = raybt(file, [f"name={name}", f"model.dtype={dtype}"])
    if ran.exit_code:
        console.print(f"FAILED: raybt ended with exit code {ran.exit_code}")
        sys.exit(1)
    return ran


def picked(base: dict[str, Any], folder: Path) -> list[str]:
    """Write the baseline, and pick the triggers from it."""
    found = shares(run(base, folder, "fp32").root)
    chosen = pick(found)
    told = ", ".join(f"{word} {share:.0%}" for word, share in sorted(found.each.items(), key=lambda item: -item[1]))
    console.print(f"\nshare of {len(found.texts)} baseline completions that hold a word: {told}")
    if not chosen:
        console.print("FAILED: no word stands in 10 to 90% of them")
        sys.exit(1)
    console.print(f"triggers: {', '.join(chosen)}, in {found.any(chosen):.0%}. This model hardly backtracks; these are "
                  "only words that it writes now and then")  # fmt: skip
    return chosen


def main(
    problems: Path = typer.Option(..., exists=True, help="JSON lines with question and answer, as GSM8K's"),
    cpus: int = typer.Option(os.cpu_count() or 1, min=1, help="threads of the replica"),
    keep: Path | None = typer.Option(None, help="work in this folder and leave it there; else in a temporary one"),
) -> None:
    with tempfile.TemporaryDirectory(prefix="raybt-real-model-") as temporary:
        folder = (keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        fetch(folder)
        base = settings(folder, problems.resolve(), cpus)
        config = study(base, picked(base, folder))
        both = [run(config, folder, SHORT[dtype], dtype) for dtype in PRECISIONS]
        written = [run(greedy(base), folder, f"greedy_{SHORT[dtype]}", dtype) for dtype in PRECISIONS]
        console.print()
        empty = show_rows(both)
        show_conditions(both)
        show_scans(both)
        show_greedy(written)
        show_speed([*both, *written])
    console.print(f"FAILED: no row in {', '.join(empty)}" if empty else "every stage ran in both")
    sys.exit(1 if empty else 0)


if __name__ == "__main__":
    typer.run(main)
