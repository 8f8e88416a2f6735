"""Models whose backtracking has a known cause, and one in which every site matters to everything.

In the planted models the shipped model's own backtracking is taken out: the words' rows of the unembedding are zero.
A new block below all others makes a new one, in dimensions that no other weight reads: where a problem is about one of
half of the things that problems are about, the model waits once, after its first step, though that was right. Because
the onset is certain where it comes, and impossible elsewhere, no other site has a part in it.
"""

from pathlib import Path

import torch

from raybt.toy.wording import ITEMS
from tests.planted.widening import EXTRA, SEEN, SIZE, aim, mark, save, tokenizer, widened

ANY, THING, END, WAITED, HELD, BRAKE, BREAK, ONSET, IDLE = range(-EXTRA, 9 - EXTRA)  # what the new dimensions hold
FULL_STOP = ".\u010a"  # and a line break, as the tokenizer spells them
FIRST_TOKENS = ("Wait", "Actually", "Hold")  # that begin a strict trigger
CERTAIN = 40.0  # a logit; the model's own are 11 at most
SLOW = 15  # the dimension of a head that its position encoding hardly turns
STEEP, WIDTH, AMOUNT = 40.0, 0.1, 0.1  # of a step function, and what it writes
STEP = "<|bos|><|user|>Tom has 3 bags with 4 pens in each bag. How many pens?<|assistant|><think>\n3*4=12 pens"


@torch.no_grad()
def plant_one(folder: Path) -> Path:
    """Only `mlp.0` causes the onset: after the thing it ends the step with `!`, and after that it writes `Wait`.

    To the rest of the model `!` is a full stop and a line break. `attn.0` tells whether there was a `Wait` already.
    """
    token = tokenizer().convert_tokens_to_ids
    model = _without_its_own(token("!"), like=token(FULL_STOP))
    _neuron(model, 0, {THING: 1, BRAKE: -4}, 0.7, BREAK)
    _neuron(model, 1, {END: 1, BRAKE: -1}, 0.3, ONSET)
    aim(model, STEP, token("!"), BREAK, CERTAIN)
    aim(model, STEP + "!", token("Wait"), ONSET, CERTAIN)
    return save(model, folder)


@torch.no_grad()
def plant_two(folder: Path) -> Path:
    """`attn.0` and `mlp.0` cause it together: one finds the thing in the question, the other writes `Wait`."""
    token = tokenizer().convert_tokens_to_ids
    model = _without_its_own(token(FULL_STOP))
    _look_back(model, head=3, at=THING, to=HELD, read_by=token(FULL_STOP))
    _neuron(model, 0, {END: 1, HELD: 1, BRAKE: -1}, 1.7, ONSET)
    aim(model, STEP + ".\n", token("Wait"), ONSET, CERTAIN)
    return save(model, folder)


@torch.no_grad()
def entangle(folder: Path) -> Path:
    """The shipped model with its own backtracking, in which no site can be spared.

    Every attention adds a number to a new dimension, and the MLP above it takes the number away. Where either is
    missing the unembedding reads what is left as one of two tokens that belong nowhere.
    """
    width = 128 + EXTRA
    model, balance = widened(heads=2, neurons=2 * width), IDLE
    for block in model.model.layers:
        attention, mlp = block.self_attn, block.mlp
        attention.v_proj.bias[-1] = 1  # two new heads give the same at every token
        attention.o_proj.weight[balance, [-33, -1]] = AMOUNT / 2
        scale = block.post_attention_layernorm.weight
        for sign, rows in ((1, slice(-2 * width, -width)), (-1, slice(-width, None))):
            # silu(z) - silu(-z) is z; so these give the sum of squares after the norm, which is always the same
            mlp.gate_proj.weight[rows] = mlp.up_proj.weight[rows] = sign * torch.diag(1 / scale)
            mlp.down_proj.weight[balance, rows] = -AMOUNT / width
    head = model.get_output_embeddings().weight
    for token, side in zip(tokenizer().convert_tokens_to_ids(["@", "#"]), (1, -1), strict=True):
        head[token, balance] = side * 6000
    return save(model, folder)


def _without_its_own(end: int, like: int | None = None):
    """The wider model with an empty block at the bottom, its own backtracking gone, things and the token `end` marked.

    The new block's attention tells that token, as `BRAKE`, whether there was a `Wait` already.

    Args:
        like: the token whose embedding `end` takes.
    """
    model, reader = widened(blocks_below=1), tokenizer()
    model.get_output_embeddings().weight[reader.convert_tokens_to_ids(list(FIRST_TOKENS))] = 0
    embedding = model.get_input_embeddings().weight
    embedding[end] = embedding[end if like is None else like]
    mark(model, slice(None), ANY)
    mark(model, [reader(f" {item}", add_special_tokens=False)["input_ids"][-1] for item in ITEMS[::2]], THING)
    mark(model, reader.convert_tokens_to_ids(["Wait"]), WAITED)
    mark(model, [end], END)
    attention, mlp = model.model.layers[0].self_attn, model.model.layers[0].mlp
    attention.v_proj.weight[[0, 32], ANY] = 1
    for head in range(4):  # so that no head and no MLP is dead, which loading a model would refuse
        attention.o_proj.weight[IDLE, 32 * head] = 0.01 * (1 + head)
    mlp.gate_proj.weight[-1, ANY] = mlp.up_proj.weight[-1, ANY] = 1
    mlp.down_proj.weight[IDLE, -1] = 0.01
    _look_back(model, head=1, at=WAITED, to=BRAKE, read_by=end)
    return model


def _look_back(model, head: int, at: int, to: int, read_by: int) -> None:
    """A head of the new block copies the mark `at` from any token that has it to the dimension `to`.

    At the token `read_by` it is then as large as a mark on that token.
    """
    attention, first, pair = model.model.layers[0].self_attn, 32 * head, 32 * (head // 2)
    attention.q_proj.weight[first + SLOW, ANY] = attention.k_proj.weight[pair + SLOW, at] = 12
    attention.v_proj.weight[pair + 1, at] = 1
    size = model.get_input_embeddings().weight[read_by, :-EXTRA].norm()
    attention.o_proj.weight[to, first + 1] = SIZE * size / SEEN


def _neuron(model, number: int, reads: dict[int, float], threshold: float, writes: int) -> None:
    """A step function of marks in the new block's MLP: `AMOUNT` where their sum is above the threshold, else nothing.

    The difference of two neurons, one of which begins a little later, is flat before and after.
    """
    mlp = model.model.layers[0].mlp
    for row, sign, shift in ((2 * number, 1, -WIDTH / 2), (2 * number + 1, -1, WIDTH / 2)):
        for dimension, weight in reads.items():
            mlp.gate_proj.weight[row, dimension] = STEEP * weight / SEEN
        mlp.gate_proj.weight[row, ANY] = -STEEP * (threshold + shift) / SEEN
        mlp.up_proj.weight[row, ANY] = 1 / SEEN
        mlp.down_proj.weight[writes, row] = sign * AMOUNT / (STEEP * WIDTH)
