"""What goes to the device in one piece comes out of it as it went in."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from raybt.engine.transfer import Fetched, packed_up, sent, unpacked

TYPES = (torch.float32, torch.int64, torch.int32, torch.bool, torch.bfloat16, torch.uint8)
SHAPES = st.lists(st.integers(0, 5), max_size=3)


@given(st.lists(st.tuples(st.sampled_from(TYPES), SHAPES), min_size=1, max_size=6))
def test_shapes_types_and_bits_survive(kinds):
    parts = [(torch.rand(shape) * 200).to(dtype) for dtype, shape in kinds]
    found = unpacked(packed_up(parts), parts)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(found, parts, strict=True))


def test_a_transposed_tensor_arrives_as_it_is():
    part = torch.arange(6).reshape(2, 3).T
    assert torch.equal(unpacked(packed_up([part]), [part])[0], part)
    assert sent(torch.device("cpu"), part)[0] is part


def test_what_is_fetched_does_not_change_afterwards():
    tensor = torch.zeros(3)
    fetched = Fetched(tensor)
    tensor += 1
    assert fetched.here and fetched.wait()[0].tolist() == [0, 0, 0]
