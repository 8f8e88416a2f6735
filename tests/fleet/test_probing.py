"""What a replica checks of a scan: an intervention that is none must change nothing, whatever the precision rounds."""

import pytest
import torch

from raybt.engine.probe.effects import effects
from raybt.engine.request import Term
from raybt.fleet.probing import _identity
from tests.engine.families import anatomy_of

TEXT = tuple(range(3, 40))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_change_of_a_hundredth_does_not_pass_for_none(dtype):
    """A row that scales what a layer adds by 1.01 stands where one by 1 belongs."""
    found = effects(anatomy_of("qwen2", dtype), TEXT, [9], [TEXT[9]], [(), (Term("mlp.1", "scale", 1.01),)], (5, 6))[0]
    assert _identity(found, ["[]", "[mlp.1]"]) is None
    assert "the row is void" in str(_identity(found, ["[mlp.1]", "[]"]))
