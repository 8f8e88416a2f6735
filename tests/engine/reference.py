"""The slow, obvious way: plain hooks around `model.generate`, one prompt and one condition at a time.

Every operation is written out by its definition, and every policy by the input positions it covers.
"""

from contextlib import contextmanager

import torch

from raybt.engine.noise import integers


def changed(x, term, bank, drawn):
    """x: [positions, width]; drawn: [positions] integers for resample."""
    s = term.strength
    if term.operation == "scale":
        return x * s
    if term.operation == "zero":
        return torch.zeros_like(x)
    v = bank[term.vector]
    unit = v / v.norm()
    if term.operation == "mean":
        return x + s * (v - x)
    if term.operation == "resample":
        return x + s * (v[drawn % len(v)] - x)
    if term.operation == "add":
        return x + s * v
    along = (x @ unit)[:, None] * unit
    return x - s * along if term.operation == "project_out" else x - along + s * unit


def is_on(request, position, written, triggers):
    """Whether the intervention is on where `position` is read, `written` being the tokens there so far."""
    step = position - (len(request.prompt) - 1)
    if request.positions == "decode":
        return step >= 1
    if request.positions == "generated":
        return step >= 0
    if request.positions == "prompt":
        return step <= 0
    if request.positions == "all":
        return True
    first, last = request.window
    if request.positions == "onset":
        return first <= step < last
    starts = [m for m in range(1, step + 1) if any(tuple(written[:m][-len(t) :]) == t for t in triggers)]
    return bool(starts) and first <= step - max(starts) < last


@contextmanager
def plain_hooks(anatomy, request, bank, triggers, sequence):
    """sequence: a list of one tensor, the token ids [1, length] of the pass to come, the last position read last."""
    points = {site: (point, part) for point in anatomy.points for part, site in enumerate(point.sites)}
    draws = torch.from_numpy(integers(request.stream, 4096))

    def change(hidden, term, part, heads):
        full, first = sequence[0][0], len(sequence[0][0]) - hidden.shape[1]
        positions = range(first, len(full))
        on = [is_on(request, p, full[len(request.prompt) : p + 1].tolist(), triggers) for p in positions]
        out = hidden.clone()
        width = hidden.shape[-1] // heads
        chosen = torch.tensor(on)
        span = slice(part * width, (part + 1) * width)
        drawn = draws[first : len(full)][chosen]
        out[0, chosen, span] = changed(hidden[0, chosen, span], term, bank, drawn)
        return out

    def attach(term):
        point, part = points[term.site]

        def on_output(_module, _inputs, output):
            if isinstance(output, tuple):
                return (change(output[0], term, part, point.heads), *output[1:])
            return change(output, term, part, point.heads)

        def on_input(_module, inputs):
            return (change(inputs[0], term, part, point.heads), *inputs[1:])

        if point.side == "input":
            return point.module.register_forward_pre_hook(on_input)
        return point.module.register_forward_hook(on_output)

    handles = [attach(term) for term in request.terms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def generate(anatomy, request, bank=None, triggers=(), forcing=None):
    """Greedy tokens and their logits, [tokens] and [tokens, vocabulary]."""
    ids = torch.tensor([request.prompt])
    sequence = [ids]

    def follow(input_ids, _scores):  # called between passes with all tokens so far
        sequence[0] = input_ids
        return torch.zeros(1, dtype=torch.bool)

    with plain_hooks(anatomy, request, bank or {}, triggers, sequence):
        output = anatomy.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=request.max_new_tokens,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=(anatomy.eos_ids or (0,))[0],
            stopping_criteria=[follow],
            logits_processor=[forcing] if forcing else [],
            min_new_tokens=request.max_new_tokens if forcing else None,
        )
    return tuple(output.sequences[0, len(request.prompt) :].tolist()), torch.cat(output.logits)
