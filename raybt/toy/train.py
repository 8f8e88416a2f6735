"""Train the toy model from nothing: `python -m raybt.toy.train --out DIR --seed N`.

One CPU thread, fp32, no clock and no hash order in any decision: the same machine writes the same bytes.

Three phases, ended by what the model can do and not by a schedule: detection on a few facts known by heart, detection
on the full range, then whole problems with slips.
"""

import argparse
import itertools
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2ForCausalLM

from raybt.toy.batches import Batch, batches
from raybt.toy.network import build
from raybt.toy.optimiser import Optimiser
from raybt.toy.probes import injected, tiny
from raybt.toy.problems import problems, take
from raybt.toy.solutions import BOS, EOS, NO_SLIPS, PAD, SLIPS, Piece, drill_text, problem_text
from raybt.toy.tokenizer import id_of, train_tokenizer

TOKENS, PROBE_EVERY, PROBE_CASES = 4_500_000, 100_000, 200
KINDS = ("tiny drill", "drill", "clean drill", "clean problem", "problem")


@dataclass(frozen=True)
class Phase:
    name: str
    shares: tuple[float, ...]  # of rows, by kind
    probe: str  # the AUC that ends the phase; "" for the last
    enough: float = 1.0
    cap: float = 1.0  # share of all tokens after which the phase ends anyway


PHASES = (
    Phase("tiny", (0.50, 0.00, 0.25, 0.25, 0.00), "tiny", 0.95, 0.20),
    Phase("range", (0.10, 0.45, 0.05, 0.20, 0.20), "injected", 0.90, 0.133),
    Phase("problems", (0.00, 0.15, 0.00, 0.00, 0.85), ""),
)


@dataclass
class State:
    """Where training is. The source of rows reads the phase, so a change of phase shows in the next window."""

    phase: int = 0
    entered: int = 0  # tokens seen when the phase began
    tokens: int = 0
    probes: list[dict[str, Any]] = field(default_factory=list)


def source(seed: int, state: State) -> Callable[[], list[Piece]]:
    rng = random.Random(f"raybt toy rows/{seed}")
    stream = problems(f"train-{seed}", "train")
    writers: dict[str, Callable[[], list[Piece]]] = {
        "tiny drill": lambda: drill_text(rng, tiny=True),
        "drill": lambda: drill_text(rng),
        "clean drill": lambda: drill_text(rng, wrong=0.0),
        "clean problem": lambda: problem_text(next(stream), rng, NO_SLIPS),
        "problem": lambda: problem_text(next(stream), rng, SLIPS),
    }
    return lambda: writers[rng.choices(KINDS, PHASES[state.phase].shares)[0]]()


def weighted_loss(model: Qwen2ForCausalLM, batch: Batch) -> Tensor:
    logits = model(batch.ids, use_cache=False).logits[:, :-1]  # [rows, length - 1, vocabulary]
    losses = F.cross_entropy(logits.flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none")
    weights = batch.weights[:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


def probe(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, state: State, loss: float) -> None:
    """Print and record where the model stands."""
    facts = tiny(model, tokenizer, PROBE_CASES, "probe")
    found = injected(model, tokenizer, take(PROBE_CASES, "probe", "train"), "probe")
    name = PHASES[state.phase].name
    state.probes.append({
        "tokens": state.tokens, "phase": name, "loss": loss, "tiny": facts.auc, "injected": found.auc,
        "after_wrong": found.wrong.mean().item(), "after_right": found.right.mean().item(), "noun": found.noun,
    })  # fmt: skip
    print(
        f"{state.tokens:>9,} tokens  {name:<8}  loss {loss:.3f}  AUC tiny {facts.auc:.3f}, injected {found.auc:.3f} "
        f"({found.wrong.mean():.2f} / {found.right.mean():.2f})  noun {found.noun:.2f}",
        flush=True,
    )


def advance(state: State, total: int) -> None:
    """Move to the next phase if this one has done its work, or has had its share of the tokens."""
    phase = PHASES[state.phase]
    spent = (state.tokens - state.entered) / total
    if phase.probe and (state.probes[-1][phase.probe] >= phase.enough or spent >= phase.cap):
        state.phase, state.entered = state.phase + 1, state.tokens


def train(seed: int, tokens: int = TOKENS) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast, State]:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tokenizer = train_tokenizer(seed)
    model, state = build(tokenizer, seed), State()
    optimiser, losses = Optimiser(model), []
    stream = batches(source(seed, state), tokenizer, random.Random(f"raybt toy order/{seed}"))
    milestones = itertools.count(PROBE_EVERY, PROBE_EVERY)
    milestone = next(milestones)
    while state.tokens < tokens:
        loss = weighted_loss(model, batch := next(stream))
        loss.backward()
        optimiser.step(state.tokens / tokens)
        state.tokens += batch.tokens
        losses.append(loss.item())
        if state.tokens >= milestone:
            probe(model, tokenizer, state, sum(losses) / len(losses))
            advance(state, tokens)
            milestone, losses = next(milestones), []
    return model, tokenizer, state


def save(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """The Hugging Face layout, weights in bfloat16. Mutates the model's dtype."""
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.7, top_p=1.0, top_k=0,
        bos_token_id=id_of(tokenizer, BOS), eos_token_id=id_of(tokenizer, EOS), pad_token_id=id_of(tokenizer, PAD),
    )  # fmt: skip
    model.bfloat16().save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # it is written for its owner alone


def write_record(out: Path, seed: int, state: State, seconds: float) -> None:
    """What happened, in a file that is the same each time; how long it took, in one that is not."""
    record = {"seed": seed, "tokens": state.tokens, "probes": state.probes}
    timing = {"seconds": round(seconds), "threads": torch.get_num_threads(), "torch": torch.__version__}
    for name, content in (("training.json", record), ("timing.json", timing)):
        (out / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the toy model on one CPU thread, about twenty minutes.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    options = parser.parse_args()
    started = time.perf_counter()
    model, tokenizer, state = train(options.seed, options.tokens)
    save(model, tokenizer, options.out)
    write_record(options.out, options.seed, state, time.perf_counter() - started)


if __name__ == "__main__":
    main()
