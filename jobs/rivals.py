"""The ways to write under interventions that raybt is measured against, each given its best on one CPU thread.

Each takes a model and rows and gives (tokens that count, CPU seconds). A row counts its own drawn length only, however
long its batch goes on.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Row:
    """One row: what to continue, under which factors on site outputs, and how many tokens it writes."""

    prompt: tuple[int, ...]
    condition: int
    factors: tuple[tuple[str, float], ...]
    length: int


@dataclass(frozen=True)
class Measured:
    tokens: int
    seconds: float

    @property
    def speed(self) -> float:
        return self.tokens / self.seconds


def module_of(model: Any, site: str) -> nn.Module:
    kind, _, layer = site.partition(".")
    block = model.model.layers[int(layer)]
    return block.self_attn if kind == "attn" else block.mlp


@contextmanager
def scaled_sites(model: Any, factors: tuple[tuple[str, float], ...]) -> Iterator[None]:
    """Plain hooks that scale sites at single-token passes, as the study did."""

    def hook(factor: float):
        def apply(_module, _inputs, output):
            hidden = output[0] if isinstance(output, tuple) else output
            if hidden.shape[1] > 1:
                return None
            return (hidden * factor, *output[1:]) if isinstance(output, tuple) else hidden * factor

        return apply

    handles = [module_of(model, site).register_forward_hook(hook(factor)) for site, factor in factors]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def padded(rows: list[Row]) -> dict[str, torch.Tensor]:
    """Prompts left-padded side by side."""
    longest = max(len(row.prompt) for row in rows)
    ids = torch.tensor([[0] * (longest - len(row.prompt)) + list(row.prompt) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row.prompt)) + [1] * len(row.prompt) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


def settings(temperature: float, length: int) -> dict[str, Any]:
    """What `generate` is told; temperature 0 is greedy. top_k=0, or transformers would cut at 50."""
    how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    return {"max_new_tokens": length, "pad_token_id": 0, **(how if temperature else {"do_sample": False})}


@torch.inference_mode()
def one_by_one(model: Any, rows: list[Row], temperature: float, keep: list | None = None) -> Measured:
    """A: `generate` prompt by prompt, hooks put on and taken off for each condition."""
    start = time.process_time()
    for row in rows:
        with scaled_sites(model, row.factors):
            out = model.generate(**padded([row]), **settings(temperature, row.length))
        if keep is not None:
            keep.append(out[0, len(row.prompt) :].tolist())
    return Measured(sum(row.length for row in rows), time.process_time() - start)


@torch.inference_mode()
def batched(model: Any, batches: list[list[Row]], temperature: float, keep: list | None = None) -> Measured:
    """B: `generate` on left-padded batches, each of one condition."""
    start = time.process_time()
    for rows in batches:
        inputs = padded(rows)
        with scaled_sites(model, rows[0].factors):
            out = model.generate(**inputs, **settings(temperature, max(row.length for row in rows)))
        if keep is not None:
            width = inputs["input_ids"].shape[1]
            keep += [done[width : width + row.length].tolist() for done, row in zip(out, rows, strict=True)]
    return Measured(sum(row.length for rows in batches for row in rows), time.process_time() - start)


@torch.inference_mode()
def continuous(model: Any, rows: list[Row], temperature: float, slots: int) -> Measured:
    """C: transformers' continuous batching, without interventions (it has none), `slots` requests at once."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    options = settings(temperature, max(row.length for row in rows))
    generation = GenerationConfig(**options, eos_token_id=-1)
    need = max(len(row.prompt) + row.length for row in rows)
    page = 32
    batching = ContinuousBatchingConfig(
        page_size=page,
        num_blocks=slots * (-(-need // page) + 1),
        max_batch_tokens=512,
        max_requests_per_batch=slots,
        use_cuda_graph=False,
        use_async_batching=False,
    )
    start = time.process_time()
    with model.continuous_batching_context_manager(
        generation_config=generation, continuous_batching_config=batching, block=True, timeout=5, warmup=False
    ) as manager:
        for index, row in enumerate(rows):
            manager.add_request(list(row.prompt), request_id=str(index), max_new_tokens=row.length)
        written = left = 0
        while left < len(rows):
            result = manager.get_result(timeout=1)
            if result is None:
                if not manager.is_running():
                    raise RuntimeError("transformers' continuous batching ended before its rows did")
                continue
            if result.is_finished():
                written, left = written + len(result.generated_tokens), left + 1
    seconds = time.process_time() - start
    expected = sum(row.length for row in rows)
    assert written == expected, f"continuous batching wrote {written} tokens where {expected} were asked for"
    return Measured(expected, seconds)


def invokes(
    model: Any, tokenizer: Any, batch: list[list[Row]], temperature: float, keep: list | None = None
) -> Measured:
    """E: nnsight, one batch whose conditions are invokes; each group of `batch` holds the rows of one condition."""
    import warnings

    from nnsight import TransformersModel  # pyright: ignore[reportMissingImports]  # an extra, not in dev

    length = max(row.length for rows in batch for row in rows)
    wrapped = TransformersModel(model, tokenizer=tokenizer, task="text-generation")
    width = max(len(row.prompt) for rows in batch for row in rows)
    inputs = padded([row for rows in batch for row in rows])  # one width, so that no invoke pads again
    start, first = time.process_time(), 0
    with warnings.catch_warnings(), torch.inference_mode(), wrapped.generate(**settings(temperature, length)) as tracer:
        for rows in batch:
            part = {name: tensor[first : first + len(rows)] for name, tensor in inputs.items()}
            first += len(rows)
            factors = rows[0].factors
            with tracer.invoke(part):
                if factors:
                    for _ in tracer.iter[1:length]:
                        for site, factor in factors:
                            kind, _, layer = site.partition(".")
                            block = wrapped.model.layers[int(layer)]
                            if kind == "mlp":
                                block.mlp.output[:] = block.mlp.output * factor
                            else:
                                block.self_attn.output[0][:] = block.self_attn.output[0] * factor
        with tracer.invoke():
            out = tracer.result.save()
    seconds = time.process_time() - start
    if keep is not None:
        keep += out[:, width:].tolist()
    return Measured(sum(row.length for rows in batch for row in rows), seconds)
