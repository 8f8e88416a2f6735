"""The rules of a config, each broken once: one line with rule, value and fix."""

import pytest
from pydantic import ValidationError

from raybt.config import Config
from raybt.errors import UserError
from raybt.load import validate

MINIMAL = {"name": "small", "model": {"name": "raybt-toy"}, "problems": {"name": "raybt-toy"}}
SUBSETS = {"late": ["mlp.4"]}


def grid(**settings):
    return {"interventions": {"subsets": SUBSETS, "grids": {"sweep": {"subsets": ["late"], **settings}}}}


BROKEN = [
    ({"modle": {}}, "did you mean model?"),
    ({"model": {"name": "x", "dtyp": "float32"}}, "model.dtyp. Fix: did you mean dtype?"),
    ({"problems": {"name": "x", "fields": {"anser": "a"}}}, "did you mean answer?"),
    (grid(scale=[0]), "interventions.grids.sweep.scale. Fix: did you mean scales?"),
    ({"model": {}}, "model.name must be given"),
    ({"model": {"name": "x", "dtype": "bfloat32"}}, "'float32', 'bfloat16' or 'float16'; got 'bfloat32'"),
    ({"name": "a/b"}, "letters, digits"),
    ({"interventions": {"subsets": {"late": []}}}, "subset late is empty"),
    ({"interventions": {"subsets": {"baseline": ["mlp.4"]}}}, "empty intervention"),
    ({"interventions": {"subsets": {"a b": ["mlp.4"]}}}, "letters, digits"),
    (grid(subsets=["lat"]), "did you mean late?"),
    (grid(subsets=["late", "late"]), "twice"),
    (grid(subsets=[]), "at least 1"),
    (grid(scales=[0, 0.0]), "twice"),
    (grid(scales=[float("nan")]), "finite"),
    (grid(scales=[float("inf")]), "finite"),
    (grid(variants=["other"]), "variant other"),
    (grid(positions="promt"), "'decode', 'generated', 'prompt'"),
    ({"prompt": {"template": "Problem:"}}, "{question}"),
    ({"prompt": {"variants": {}}}, "at least one variant"),
    ({"sampling": {"samples": 0}}, "greater than or equal to 1; got 0"),
    ({"sampling": {"temperature": 0}}, "greater than 0"),
    ({"sampling": {"temperature": float("inf")}}, "finite"),
    ({"sampling": {"samples": 2, "greedy": True}}, "set samples to 1"),
    ({"triggers": {"strict": ["Wait", "Wait"]}}, "twice"),
    ({"triggers": {"strict": [" "]}}, "blank"),
    ({"replicas": {"slots": 8}}, "16"),
]


@pytest.mark.parametrize(("section", "says"), BROKEN)
def test_each_rule_is_told_in_one_line(section, says):
    with pytest.raises(UserError) as error:
        validate({**MINIMAL, **section})
    text = str(error.value)
    assert says in text and "\n" not in text and len(text) < 400
    assert error.value.rule and error.value.fix


def test_a_misspelt_key_comes_before_what_follows_from_it_and_the_rest_is_counted():
    with pytest.raises(UserError, match=r"did you mean name\? \(2 more problems in this config\)"):
        validate({**MINIMAL, "model": {"nam": "x"}, "seed": "x"})


def test_a_config_cannot_be_changed():
    config = validate(MINIMAL)
    with pytest.raises(ValidationError):
        config.seed = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_the_smallest_config_has_a_default_for_everything_else():
    assert isinstance(validate(MINIMAL), Config)
