"""What loading refuses: a model whose sites would not be what their names say."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from raybt.engine.anatomy import dissect
from raybt.engine.wiring import prove_wiring
from raybt.errors import UserError
from tests.engine.families import EXOTIC, FAMILIES, SMALL, anatomy_of


@pytest.mark.parametrize("name", [*FAMILIES, *EXOTIC])
def test_every_family_is_proved(name):
    prove_wiring(anatomy_of(name))


def test_a_kin_that_nobody_named_is_found_by_structure():
    torch.manual_seed(0)
    config = CONFIG_MAPPING["starcoder2"](**SMALL)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval().requires_grad_(False)
    anatomy = dissect(model)
    prove_wiring(anatomy)
    assert len(anatomy.sites) == 3 * (3 + 4)


def test_a_family_that_adds_its_components_in_another_way_is_refused():
    torch.manual_seed(0)
    config = CONFIG_MAPPING["granite"](**SMALL, residual_multiplier=0.5)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval().requires_grad_(False)
    with pytest.raises(UserError, match=r"must equal removing what its component adds.*Granite"):
        prove_wiring(dissect(model))


class Unknown(nn.Module):
    """Blocks in a list, named as nobody else names them."""

    def __init__(self, **parts):
        super().__init__()
        block = nn.Module()
        for name, part in parts.items():
            setattr(block, name, part)
        self.blocks = nn.ModuleList([block])
        facts = SimpleNamespace(num_hidden_layers=1, num_attention_heads=2)
        self.config = SimpleNamespace(get_text_config=lambda: facts)


def test_an_unknown_family_is_refused_with_what_was_looked_for():
    with pytest.raises(UserError, match=r"list of 1 blocks.*self_attn, attn, attention.*mlp, feed_forward.*Unknown"):
        dissect(Unknown(mixer=nn.Linear(4, 4), mlp=nn.Linear(4, 4)))


def test_an_attention_without_an_output_projection_is_refused_with_what_it_has():
    attention = nn.Module()
    attention.query = nn.Linear(4, 4)
    with pytest.raises(UserError, match=r"one of o_proj, out_proj, c_proj, dense.*with query"):
        dissect(Unknown(attn=attention, mlp=nn.Linear(4, 4)))
