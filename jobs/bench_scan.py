"""The scan of an onset against the plain way, one full forward pass per site: one run, one table.

    python jobs/bench_scan.py [--json FILE]

A random Qwen2 of 28 layers, text of 400 tokens, every attention and MLP zeroed at the position before the onset, fp32,
one thread, CPU seconds. The plain way is timed on some sites, since each costs the same, and both are compared there.
"""

import json
import time
from pathlib import Path
from typing import Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from raybt.engine.anatomy import Anatomy, dissect
from raybt.engine.probe.scan import Scan, scan
from raybt.engine.request import Term

console = Console()


SHARE = 3  # of the width of DeepSeek-R1-Distill-Qwen-1.5B, one part in this many


def load(layers: int) -> Anatomy:
    """Random weights in the shape of DeepSeek-R1-Distill-Qwen-1.5B, every width a third."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=151936 // SHARE,
        hidden_size=1536 // SHARE,
        intermediate_size=8960 // SHARE,
        num_hidden_layers=layers,
        num_attention_heads=12 // SHARE,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    model: Any = Qwen2ForCausalLM(config)
    return dissect(model.eval().requires_grad_(False))


@torch.inference_mode()
def full_pass(anatomy: Anatomy, tokens: tuple[int, ...], site: str, keep: int = 0) -> torch.Tensor:
    """Logits at the last position, the site's output there at zero. keep: logits to compute; 0 all, as by default."""

    def zeroed(_module, _inputs, output):
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        hidden[:, -1] = 0
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    handle = anatomy.point(site).module.register_forward_hook(zeroed)
    try:
        return anatomy.model(input_ids=torch.tensor([tokens]), use_cache=False, logits_to_keep=keep).logits[0, -1]
    finally:
        handle.remove()


def timed(work, repeats: int) -> tuple[float, Any]:
    """Mean CPU seconds of a call, and what the last one gave."""
    start = time.process_time()
    for _ in range(repeats):
        found = work()
    return (time.process_time() - start) / repeats, found


def largest_difference(found: Scan, plain: dict[str, torch.Tensor], sites: list[str]) -> float:
    """Of the last event's logits, where the plain way was run."""
    return max(float((found.logits[-1, sites.index(site)] - logits).abs().max()) for site, logits in plain.items())


def main(
    layers: int = typer.Option(28, min=1),
    tokens: int = typer.Option(400, min=96),
    timed_sites: int = typer.Option(6, min=1, help="sites that the plain way is timed on"),
    json_file: Path | None = typer.Option(None, "--json", help="write the numbers here"),
) -> None:
    torch.set_num_threads(1)
    anatomy = load(layers)
    text = tuple(torch.randint(5000, (tokens + 1,), generator=torch.Generator().manual_seed(1)).tolist())
    sites = [site for site in anatomy.sites if site.startswith(("attn.", "mlp."))]
    interventions = [(Term(site),) for site in sites]
    scan(anatomy, text, (tokens,), interventions)  # warm
    full_pass(anatomy, text[:tokens], sites[0])

    chosen = sites[:: max(1, len(sites) // timed_sites)]
    whole, plain = timed(lambda: {site: full_pass(anatomy, text[:tokens], site) for site in chosen}, 1)
    lean, _ = timed(lambda: [full_pass(anatomy, text[:tokens], site, keep=1) for site in chosen], 1)
    one, _ = timed(lambda: scan(anatomy, text, (tokens,), interventions), 3)
    events = tuple(tokens - 8 * step for step in range(7, -1, -1))
    eight, found = timed(lambda: scan(anatomy, text, events, interventions), 2)

    passes = len(sites) + 1  # the untouched one too
    plain_seconds, lean_seconds = (passes * seconds / len(chosen) for seconds in (whole, lean))
    result = {
        "ratio_one_event": plain_seconds / one,
        "ratio_eight_events": len(events) * plain_seconds / eight,
        "max_abs_diff": largest_difference(found, plain, sites),
        "noise_floor": float(found.floor().max()),
        "ratio_one_event_last_logits_only": lean_seconds / one,
        "ratio_eight_events_last_logits_only": len(events) * lean_seconds / eight,
        "seconds": {"plain": plain_seconds, "plain_last_logits_only": lean_seconds, "one": one, "eight": eight},
    }
    table = Table("", "full passes", "", "only the last logits", "", "raybt")
    for label, count, seconds in (("one event", 1, one), (f"{len(events)} events of a text", len(events), eight)):
        plain_ways = [(count * s, count * s / seconds) for s in (plain_seconds, lean_seconds)]
        table.add_row(label, *(cell for s, r in plain_ways for cell in (f"{s:.1f} s", f"{r:.0f}x")), f"{seconds:.2f} s")
    console.print(table)
    console.print(
        f"{layers} layers, {tokens} tokens, {passes} passes an event, fp32, one thread, CPU seconds; plain ways on "
        f"{len(chosen)} of {len(sites)} sites. Largest difference of logits {result['max_abs_diff']:.1e}; between "
        f"untouched rows of one scan {result['noise_floor']:.1e}"
    )
    if json_file:
        json_file.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    typer.run(main)
