"""raybt's decode step on a GPU against the least that memory allows: one run, one table.

    python jobs/bench_gpu.py [--json FILE]

DeepSeek-R1-Distill-Qwen-1.5B's shape with random weights, bf16. A step must at least read the weights and the keys and
values of every slot once: that, over the bandwidth of a copy measured here, is the floor. Needs torch and transformers,
neither Ray nor datasets. `--device cpu --quick` runs the same code on a tiny shape.
"""

import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from rivals import Row, batched, invokes, one_by_one

from raybt.engine.anatomy import Anatomy, dissect
from raybt.engine.decode import Decoder
from raybt.engine.graph import Graphs
from raybt.engine.kernels import HAVE_TRITON
from raybt.engine.request import Request, Sampling, Term
from raybt.toy import MODEL_DIR

CONTEXT = 350  # tokens in a slot while steps are timed
LITERAL = {"rows": 4_800, "tokens": 512}
"""configs/phase2_literal.yaml, the study's two sweeps: 120 problems, 4 samples, 10 conditions, and its longest row."""
LONG = 2048
"""configs/phase2.yaml's longest row. How many it has, its own stages decide; `raybt plan` counts those known so far."""
console = Console(width=110)


def load(device: str, quick: bool) -> Anatomy:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    shape: dict[str, Any] = {
        "vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2, "tie_word_embeddings": False,
    }  # fmt: skip
    if quick:
        shape |= {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3}
        shape |= {"num_attention_heads": 4}
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model: Any = Qwen2ForCausalLM(Qwen2Config(**shape))
    torch.set_default_dtype(torch.float32)
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    return dissect(model.eval().requires_grad_(False))


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bandwidth(device: torch.device, quick: bool) -> float:
    """Bytes a second that a large copy reads and writes."""
    source = torch.ones(2**22 if quick else 2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    wait(device)
    start, repeats = time.perf_counter(), 10
    for _ in range(repeats):
        target.copy_(source)
    wait(device)
    return 2 * source.nbytes * repeats / (time.perf_counter() - start)


def terms_of(anatomy: Anatomy, sites: str) -> tuple[Term, ...]:
    every = [site for site in anatomy.sites if site.startswith(("attn.", "mlp."))]
    chosen = {"none": [], "one": every[len(every) // 2 :][:1], "all": every}[sites]
    return tuple(Term(site, "scale", 0.9) for site in chosen)


@torch.inference_mode()
def step_seconds(anatomy: Anatomy, slots: int, sites: str, captured: bool, context: int, steps: int) -> float:
    """Seconds of a decode step with every slot in use at about the same context."""
    decoder = Decoder(anatomy, Sampling(0.7, top_p=0.95), slots, context + 4 * steps)
    if not captured:
        decoder.graphs = Graphs(torch.device("cpu"))
    prompt = tuple(range(5, 5 + min(context, 400)))
    terms = terms_of(anatomy, sites)
    decoder.submit(Request(str(i), prompt, 4 * steps, i, terms) for i in range(slots))
    try:
        for _ in range(10):  # kernels compile, the graph is captured
            decoder.step()
        wait(anatomy.device)
        start = time.perf_counter()
        for _ in range(steps):
            decoder.step()
        wait(anatomy.device)
        return (time.perf_counter() - start) / steps
    finally:
        decoder.close()


def floor_seconds(anatomy: Anatomy, slots: int, context: int, speed: float) -> float:
    """Weights but the embedding table, of which a step reads a row a slot, and keys and values, each read once."""
    embedding = anatomy.model.get_input_embeddings().weight
    weights = sum(p.nbytes for p in anatomy.model.parameters()) - embedding.nbytes
    config = anatomy.model.config
    each = 2 * config.num_hidden_layers * config.num_key_value_heads * anatomy.head_width * embedding.element_size()
    return (weights + slots * context * each) / speed


def rivals(anatomy: Anatomy, length: int) -> dict[str, float]:
    """Tokens a second of plain `generate`, one row and 64 of one condition, and of nnsight, 8 conditions of 8 rows."""
    row = Row(tuple(range(5, 69)), 1, (("mlp.1", 0.0),), length)
    mixed = [[Row(row.prompt, c, ((f"mlp.{c % anatomy.n_layers}", 0.5),), length)] * 8 for c in range(8)]

    def speed(work, rows: int) -> float:
        wait(anatomy.device)
        start = time.perf_counter()
        work()
        wait(anatomy.device)
        return rows * length / (time.perf_counter() - start)

    with torch.device(anatomy.device):
        one_by_one(anatomy.model, [row], 0.7)
        found = {
            "A": speed(lambda: one_by_one(anatomy.model, [row], 0.7), 1),
            "B": speed(lambda: batched(anatomy.model, [[row] * 64], 0.7), 64),
        }
        if find_spec("nnsight"):
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR, padding_side="left")
            found["E"] = speed(lambda: invokes(anatomy.model, tokenizer, mixed, 0.7), 64)
        return found


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
    anatomy, steps = load(device, quick), 4 if quick else 64
    context = 24 if quick else CONTEXT
    speed = bandwidth(anatomy.device, quick)
    name = torch.cuda.get_device_name() if anatomy.device.type == "cuda" else "CPU"
    console.print(
        f"{name}: a copy moves {speed / 1e9:,.0f} GB/s; kernels: {'Triton' if HAVE_TRITON else 'plain torch'}"
    )
    found = []
    table = Table("slots", "sites on", "step", "ms a step", "tokens / s", "share of the floor")
    for slots in (16, 32) if quick else (64, 128, 256, 512):
        for sites in ("none", "one", "all"):
            for captured in (False, True) if anatomy.device.type == "cuda" else (False,):
                seconds = step_seconds(anatomy, slots, sites, captured, context, steps)
                share = floor_seconds(anatomy, slots, context, speed) / seconds
                how = "captured" if captured else "eager"
                found.append({"slots": slots, "sites": sites, "step": how, "ms": 1e3 * seconds,
                              "tokens_per_second": slots / seconds, "share_of_floor": share})  # fmt: skip
                table.add_row(str(slots), sites, how, f"{1e3 * seconds:.2f}", f"{slots / seconds:,.0f}", f"{share:.0%}")
    console.print(table)
    best = max(found, key=lambda row: row["tokens_per_second"])
    plain = rivals(anatomy, 8 if quick else 64)
    for key, value in plain.items():
        console.print(f"({key}) {value:,.0f} tokens/s; raybt at its best {best['tokens_per_second'] / value:,.0f}x")
    seconds = LITERAL["rows"] * LITERAL["tokens"] / best["tokens_per_second"]
    console.print(
        f"phase2_literal.yaml, {LITERAL['rows']:,} rows of at most {LITERAL['tokens']} tokens: {seconds:,.0f} s here; "
        f"phase2.yaml: {1000 * LONG / best['tokens_per_second']:,.0f} s for each 1,000 rows of at most {LONG} tokens"
    )
    if json_file:
        result = {"device": name, "copy_bytes_per_second": speed, "steps": found, "rivals": plain, "phase2": seconds}
        json_file.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    typer.run(main)
