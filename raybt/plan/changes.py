"""An old and a new config of one run -> which differences may stand, and which are another run.

A difference is accepted where it only adds or drops rows, or touches nothing that is in a row's key. One that would
give rows of the same name other tokens is refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from raybt.config import Config
from raybt.errors import UserError
from raybt.plan.keys import sampling_fields
from raybt.plan.sites import expand

_ROUNDING = ("model.device", "model.attention")
_PRECISION = "model.dtype"
_SIDE_BY_SIDE = " (other rounding: rows of both kinds stand side by side)"
_PROMPT = ("prompt.system", "prompt.template", "prompt.chat")
_IDENTITY = ("model.name", "model.revision")
_ANY_SIZE = 300  # `attn.*` means the same in both configs, so any size that holds every range serves to compare

_ABSENT = object()


@dataclass(frozen=True)
class Changes:
    """Differences, one line each.

    Args:
        additive: to be logged.
        refused: those that the run cannot take.
        mixed: those that would put rows of another precision beside the rows that are there, if any are.
    """

    additive: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)

    def __add__(self, other: "Changes") -> "Changes":
        return Changes(self.additive + other.additive, self.refused + other.refused, self.mixed + other.mixed)

    def check(self, name: str) -> None:
        """Raise a `UserError` that names every refused difference, and offer another name than `name`."""
        if self.refused:
            raise UserError(
                f"run {name} has begun, and its rows must keep their keys",
                "; ".join(self.refused),
                f"undo that, or start another run with --set name={_next_name(name)}",
            )

    def accepted(self, rows: bool) -> list[str]:
        """What to log, where no check raised; `rows` says whether there are any."""
        return self.additive + [line + _SIDE_BY_SIDE * rows for line in self.mixed]

    def check_mixed(self, name: str) -> None:
        """Raise a `UserError` that names every difference in precision."""
        if self.mixed:
            raise UserError(
                f"run {name} has rows in one precision, and rows in another would be compared with them",
                "; ".join(self.mixed),
                f"undo that, start another run with --set name={_next_name(name)}, or run with --allow-mixed",
            )


def compare(old: Config, new: Config, old_fingerprint: str, new_fingerprint: str) -> Changes:
    """Every field that differs, as accepted, refused, or accepted only where rows of two precisions may be mixed."""
    changes = Changes()
    same_model = old_fingerprint == new_fingerprint
    for path, was, now in _differences("", _values(old), _values(new)):
        refused = (path in _IDENTITY and not same_model) or _changes_keys(path, was, now, old, new)
        note = _SIDE_BY_SIDE if path in _ROUNDING else ""
        accepted = changes.mixed if path == _PRECISION else changes.additive
        (changes.refused if refused else accepted).append(_line(path, was, now) + note)
    if not same_model:
        changes.refused.append(_line("model fingerprint", old_fingerprint, new_fingerprint))
    return changes


def compare_prompts(old: pa.Table, new: pa.Table) -> Changes:
    """Prompts that both tables hold: other tokens are refused, another gold answer is accepted and logged."""
    before = {(row["variant"], row["problem"]): row for row in old.to_pylist()}
    both = [(before[name], row) for row in new.to_pylist() if (name := (row["variant"], row["problem"])) in before]
    tokens = [
        f"prompt {row['variant']} of problem {row['problem']} (other tokens)"
        for was, row in both
        if was["token_ids"] != row["token_ids"]
    ]
    golds = [
        _line(f"gold answer of problem {row['problem']}", was["gold"], row["gold"])
        for was, row in both
        if was["gold"] != row["gold"]
    ]
    return Changes(list(dict.fromkeys(golds)), _abridged(tokens))


def _values(config: Config) -> dict[str, Any]:
    values = config.model_dump()
    values["prompt"]["chat"] = config.prompt.uses_chat  # null and what null means are no difference
    return values


def _differences(path: str, was: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """(dotted path, old, new) of what differs; an entry that only one side has is one difference."""
    if not (isinstance(was, dict) and isinstance(now, dict)):
        if was != now:
            yield path, was, now
        return
    for key in dict.fromkeys([*was, *now]):
        yield from _differences(f"{path}.{key}" if path else key, was.get(key, _ABSENT), now.get(key, _ABSENT))


def _changes_keys(path: str, was: Any, now: Any, old: Config, new: Config) -> bool:
    """Whether rows that both configs have would get other keys."""
    section, _, name = path.rpartition(".")
    in_both = was is not _ABSENT and now is not _ABSENT
    if path == "seed":
        return not (old.sampling.greedy and new.sampling.greedy)
    if section == "sampling":
        return name in sampling_fields(old.sampling) or name in sampling_fields(new.sampling)
    if section == "prompt.variants":
        return in_both
    if section == "interventions.subsets":
        return in_both and _in_use(name, old, new) and _sites(was) != _sites(now)
    if section.startswith("interventions.subsets."):
        return True
    if section.startswith("interventions.grids."):
        return name in ("positions", "operation", "vectors", "window", "controls", "directions")
    if section == "stages":
        return False  # a whole stage more or less
    if section.startswith("stages."):
        return name != "draws"
    if path == "problems.select":
        return bool(old.stages and new.stages)
    if section == "triggers":
        return bool(old.stages and new.stages) or (name == "strict" and _after_triggers(old) and _after_triggers(new))
    if section.startswith("interventions.vectors."):
        return True
    return path in _PROMPT


def _sites(named: Any) -> Any:
    """What a subset means; for one that a scan finds, or a family, how it is written."""
    plain = isinstance(named, (tuple, list)) and all(isinstance(one, str) for one in named)
    return expand(named, _ANY_SIZE, _ANY_SIZE) if plain else named


def _after_triggers(config: Config) -> bool:
    return any(grid.positions == "after_trigger" for grid in config.interventions.grids.values())


def _in_use(subset: str, old: Config, new: Config) -> bool:
    """Whether a stage that both configs have intervenes on the subset in both."""
    before, after = _subsets_of_stages(old), _subsets_of_stages(new)
    return any(subset in before[stage] and subset in after[stage] for stage in before if stage in after)


def _subsets_of_stages(config: Config) -> dict[str, tuple[str, ...]]:
    grids = {name: grid.subsets for name, grid in config.interventions.grids.items()}
    return grids | {name: stage.named_subsets for name, stage in config.stages.items()}


def _line(path: str, was: Any, now: Any) -> str:
    if was is _ABSENT:
        return f"{path}: added"
    return f"{path}: removed" if now is _ABSENT else f"{path}: {_short(was)} -> {_short(now)}"


def _short(value: Any, width: int = 60) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= width else text[: width - 3] + "..."


def _abridged(lines: list[str], most: int = 3) -> list[str]:
    return lines if len(lines) <= most else [*lines[:most], f"and {len(lines) - most} more prompts"]


def _next_name(name: str) -> str:
    """`demo` -> `demo-2` -> `demo-3`."""
    match = re.fullmatch(r"(.*)-([0-9]+)", name)
    return f"{match[1]}-{int(match[2]) + 1}" if match else f"{name}-2"
