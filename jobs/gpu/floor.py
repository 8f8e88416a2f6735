"""The least time that a decode step can take on a card, from what the card moves and multiplies when measured.

Part by part, the larger of two times: its bytes at the speed of a large copy, its operations at the speed of a large
bf16 product; and the sum over parts, for they follow one another. Counted are

- every weight matrix of the blocks and the head: its weights read once, two operations a weight and slot;
- attention: every slot's keys and values read once, four operations for each of them and each query head that reads it;
- sampling: every logit read once.

Left out: activations between the parts (small, and mostly in the card's cache), norms, hooks, the embedding's rows, the
head's writing of logits, and the launch of kernels. A real step does all of these, so its share of the floor stays
below 1.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Speeds:
    """What a card was measured to do: bytes a second of a copy, read and written; operations a second of a product."""

    bytes_per_second: float
    operations_per_second: float


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes. itemsize: bytes of a number."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    itemsize: int = 2


class Part(NamedTuple):
    """Some of a step's work: what it reads, and what it computes."""

    name: str
    bytes: float
    operations: float

    def seconds(self, speeds: Speeds) -> float:
        return max(self.bytes / speeds.bytes_per_second, self.operations / speeds.operations_per_second)


def shape_of(model: Any) -> Shape:
    """The shape of a transformers model with gated MLPs and a plain head (Qwen2, Llama and kin)."""
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Shape(
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        width,
        config.vocab_size,
        model.dtype.itemsize,
    )


def parts_of(shape: Shape, slots: int, context: float) -> list[Part]:
    """A step's parts, all layers together. context: tokens that a slot attends to, on average."""
    s = shape
    queries, keys = s.heads * s.head_width, s.kv_heads * s.head_width
    weights = {
        "q, k, v": s.layers * s.hidden * (queries + 2 * keys),
        "attention out": s.layers * queries * s.hidden,
        "gate, up": s.layers * 2 * s.hidden * s.intermediate,
        "down": s.layers * s.intermediate * s.hidden,
        "head": s.vocabulary * s.hidden,
    }
    seen = s.layers * slots * context  # positions read in a step
    return [
        *(Part(name, count * s.itemsize, 2 * count * slots) for name, count in weights.items()),
        Part("keys and values", seen * 2 * keys * s.itemsize, seen * 4 * queries),
        Part("sampling", slots * s.vocabulary * s.itemsize, 0),
    ]


def floor_seconds(shape: Shape, slots: int, context: float, speeds: Speeds) -> float:
    return sum(part.seconds(speeds) for part in parts_of(shape, slots, context))
