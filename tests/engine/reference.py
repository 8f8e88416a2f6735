"""The slow, obvious way: plain hooks around `model.generate`, one prompt and one condition at a time."""

from contextlib import contextmanager

import torch


@contextmanager
def plain_hooks(anatomy, strengths, positions):
    """Scale the sites' outputs as the study did: at single-token passes, and for `generated` at the prompt's end."""

    def hook(factor):
        def apply(_module, _inputs, output):
            hidden = output[0] if isinstance(output, tuple) else output
            hidden = hidden.clone()
            if hidden.shape[1] == 1 or positions == "generated":
                hidden[:, -1] *= factor
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return apply

    handles = [anatomy.sites[site].register_forward_hook(hook(factor)) for site, factor in strengths]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def generate(anatomy, request):
    """Greedy tokens and their logits, [tokens] and [tokens, vocabulary]."""
    ids = torch.tensor([request.prompt])
    with plain_hooks(anatomy, request.strengths, request.positions):
        output = anatomy.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=request.max_new_tokens,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=anatomy.eos_ids[0],
        )
    return tuple(output.sequences[0, len(request.prompt) :].tolist()), torch.cat(output.logits)
