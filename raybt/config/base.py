"""What every section of a config shares: frozen, strict about names."""

import math
from difflib import get_close_matches
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=80)]


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("a scale must be a finite number; use 0 for ablation, 1 for no change")
    return value


Scale = Annotated[float, AfterValidator(_finite)]


class Section(BaseModel):
    """Frozen, and strict about names: an unknown key is a mistake, never ignored."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True, populate_by_name=True
    )


def nearest(name: str, known) -> str:
    """How an error ends that names something which is not defined."""
    match = get_close_matches(name, list(known), n=1)
    return f"; did you mean {match[0]}?" if match else f"; defined are: {', '.join(known) or 'none'}"


def check_no_repeats(label: str, values) -> None:
    values = values or ()
    if len(set(values)) < len(values):
        raise ValueError(f"{label} lists a value twice: {list(values)}; remove one")
