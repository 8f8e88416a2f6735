"""Write the model card from what was measured: `python -m raybt.toy.card --evaluation FILE --sites FILE`.

Every number in the card is read from a file; none is typed here.
"""

import argparse
import json
from itertools import groupby
from pathlib import Path
from typing import Any

from raybt.toy import MODEL_DIR
from raybt.toy.evaluate import GATES

FRONT = """---
license: mit
language: en
pipeline_tag: text-generation
library_name: transformers
---
"""
INTRO = """# A small model that backtracks

A Qwen2-architecture model of {parameters:,} parameters ({megabytes:.1f} MB, bfloat16) that solves two- and three-step
word problems, slips, notices most slips, writes "Wait, ..." and does the step again. It exists so that raybt can be
tried and tested on a real model without a GPU or a download. Nothing in it is scripted at run time: what it writes
is sampled.
"""
SAMPLE = """## What it writes

> {question}

```
{text}
```

(gold {gold}; `torch.manual_seed({seed})`, then plain `generate` at temperature 0.7)
"""
GATES_HEAD = """## Measured

{problems} fresh problems (evaluation seed {seed}), plain chat template, fp32, temperature 0.7, top-p 1, top-k 0, one
row at a time by plain `generate`. `raybt/toy/evaluate.py` defines every term, and measures them again:
`python -m raybt.toy.evaluate --json FILE --seed {seed} --problems {problems}`.

| measure | value | gate |
|---|---|---|
"""
SITES_HEAD = """## What each site does

One site's output multiplied by 0 at every decode step (the prompt's prefill untouched), {problems} problems, evaluation
seed {seed}, batches of plain `generate` with forward hooks. Read the accuracy first: an onset rate that rises or
falls in a model that can no longer solve anything says nothing about backtracking.

| site | onset rate | accuracy | wrong steps | P(onset after wrong) | P(onset after right) |
|---|---|---|---|---|---|
"""
TRAINING = """## Training

`python -m raybt.toy.train --out DIR --seed {seed}`: from nothing, {tokens:,} tokens, {seconds:,} seconds of wall
time on {threads} CPU thread (torch {torch}). The same machine writes the same weights again; another may not, and
has the gates to check by. A phase ends when its detection test is passed, or at a cap:

| phase | tokens at its end | injected AUC there |
|---|---|---|
"""
LIMITS = """## What it is not

- It does not reason beyond its world: products up to 6 x 9, sums and differences of a one-digit number, a few dozen
  words. Nearly all arithmetic facts are seen in training; only the questions are new (training, shipped and evaluation
  questions are disjoint by the hash of their text).
- It was taught to slip and to correct itself, by texts with planted slips. That it backtracks is no finding; where
  in its layers it does so was not taught and can be measured.
- It never saw other prompts than its own: the chat template, with `<think>` and a line break, a space, or no think tag
  after it, and at times one of three short system messages.
"""


def gates_table(found: dict[str, Any]) -> str:
    return "".join(f"| {name} | {found[name]:.3f} | {rule} |\n" for name, (rule, _) in GATES.items())


def site_rows(sites: dict[str, dict[str, float | None]]) -> str:
    columns = ("onset_rate", "accuracy", "step_error", "p_onset_wrong", "p_onset_right")
    return "".join(f"| {name} | {' | '.join(cell(row[c]) for c in columns)} |\n" for name, row in sites.items())


def cell(value: float | None) -> str:
    """A share, or a dash where there was nothing to count."""
    return "-" if value is None else f"{value:.2f}"


def phase_rows(probes: list[dict[str, Any]]) -> str:
    ends = [list(group)[-1] for _, group in groupby(probes, key=lambda probe: probe["phase"])]
    return "".join(f"| {end['phase']} | {end['tokens']:,} | {end['injected']:.3f} |\n" for end in ends)


def sample(rows: list[dict[str, Any]]) -> str:
    """The first row that slipped and put it right: an example of what the gates count, named by its seed."""
    row = next(r for r in rows if any(s["next_onset"] and s["label"] != "right" for s in r["steps"]))
    return SAMPLE.format(**row)


def card(folder: Path, evaluation: dict[str, Any], sites: dict[str, Any]) -> str:
    training, timing = (json.loads((folder / name).read_text()) for name in ("training.json", "timing.json"))
    size = (folder / "model.safetensors").stat().st_size
    parts = [
        INTRO.format(parameters=parameter_count(folder), megabytes=size / 1e6),
        sample(evaluation["rows"]),
        GATES_HEAD.format(**evaluation) + gates_table(evaluation),
        SITES_HEAD.format(**sites) + site_rows(sites["sites"]),
        TRAINING.format(**training, **timing) + phase_rows(training["probes"]),
        LIMITS,
    ]
    return FRONT + "\n" + "\n".join(parts)


def parameter_count(folder: Path) -> int:
    """From the safetensors header alone; tied weights are stored once."""
    with (folder / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    spans = [entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"]
    return sum(end - start for start, end in spans) // 2  # two bytes each in bfloat16


def main() -> None:
    parser = argparse.ArgumentParser(description="Render the toy model's card from its measurements.")
    parser.add_argument("--evaluation", type=Path, required=True, help="what raybt.toy.evaluate wrote")
    parser.add_argument("--sites", type=Path, required=True, help="what raybt.toy.sites wrote")
    parser.add_argument("--model", type=Path, default=MODEL_DIR)
    options = parser.parse_args()
    evaluation, sites = (json.loads(path.read_text()) for path in (options.evaluation, options.sites))
    (options.model / "README.md").write_text(card(options.model, evaluation, sites), encoding="utf-8")


if __name__ == "__main__":
    main()
