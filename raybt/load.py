"""A config file and its `--set` overrides -> Config, and back to YAML."""

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import Tag, ValidationError

from raybt.config import SHIPPED, Config
from raybt.errors import UserError


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML config and apply overrides such as `model.dtype=bfloat16`, each value parsed as YAML.

    Raises:
        UserError: the file or an override cannot be read, or the config breaks a rule.
    """
    values = _read(Path(path))
    for override in overrides:
        _apply(values, override)
    return validate(values)


def validate(values: Mapping[str, Any]) -> Config:
    """Plain values -> Config; the first rule broken becomes a one-line `UserError`."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise _first_problem(error) from None


def schema_json() -> str:
    """JSON schema of the config file, for editors to complete and check it with."""
    return json.dumps(Config.model_json_schema(), indent=2)


def dump_yaml(config: Config) -> str:
    """The whole config, defaults included; `load_config` of it gives an equal config."""
    values = config.model_dump(mode="json", by_alias=True)
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def absolute(config: Config) -> Config:
    """The same config with local paths made absolute, so that it means the same from another folder.

    Hub ids, shipped names and URIs (s3://, gs://) stay as they are.
    """
    model = config.model.model_copy(update={"name": _absolute_if_local(config.model.name)})
    problems = config.problems.model_copy(update={"name": _absolute_if_local(config.problems.name)})
    artifacts = config.artifacts
    if "://" not in artifacts:
        artifacts = str(Path(artifacts).expanduser().resolve())
    return config.model_copy(update={"model": model, "problems": problems, "artifacts": artifacts})


def _absolute_if_local(name: str) -> str:
    path = Path(name).expanduser()
    return name if name == SHIPPED or not path.exists() else str(path.resolve())


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, where PyYAML would silently keep the last."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if str(key) in seen:
                raise UserError(
                    "a key may stand only once in a section of the config",
                    f"{key!r} again at line {key_node.start_mark.line + 1}",
                    "remove one, or give one another name",
                )
            seen.add(str(key))
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a block, as one would by hand."""


def _represent_text(dumper: yaml.SafeDumper, text: str):
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError("a config must be a readable YAML file", f"{path}: {why}", "check the path") from None
    values = _parse(text, str(path))
    if not isinstance(values, dict):
        found = "an empty file" if values is None else f"a {type(values).__name__}"
        raise UserError(
            "a config must be a YAML mapping",
            f"{path}: {found}",
            "start from configs/demo.yaml; `raybt schema` lists the keys",
        )
    return values


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        why = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError("a config must be valid YAML", f"{where}{line}: {why}", "mend that line") from None


def _apply(values: dict[str, Any], override: str) -> None:
    """Set one `a.b=value` in `values`; mutates it, and makes the sections that are not there."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UserError("an override must read a.b=value", repr(override), "for example --set model.dtype=bfloat16")
    section = values
    for depth, key in enumerate(keys[:-1], start=1):
        if section.get(key) is None:
            section[key] = {}
        section = section[key]
        if not isinstance(section, dict):
            where = ".".join(keys[:depth])
            raise UserError(
                "an override must name a key in a section",
                f"{override!r}: {where} is no section",
                f"set {where} itself",
            )
    section[keys[-1]] = _parse(text, f"--set {path}")


def _first_problem(error: ValidationError) -> UserError:
    # A misspelt key comes first: the "missing" or "wrong" that follows from it would send the user elsewhere.
    problems = sorted(_causes(error.errors()), key=lambda problem: problem["type"] != "extra_forbidden")
    rule, value, fix = _explain(problems[0])
    more = len(problems) - 1
    return UserError(rule, value, fix + (f" ({more} more problem{'s' * (more > 1)} in this config)" if more else ""))


def _causes(problems: Sequence[Any]) -> list[Any]:
    """Problems less those that follow from another: a list with a bad item counts as too short besides."""

    def follows(problem: Any) -> bool:
        place = problem["loc"]
        return any(len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in problems)

    return [problem for problem in problems if not follows(problem)]


def _explain(problem: Any) -> tuple[str, str, str]:
    """One of pydantic's problems as (rule, value, fix)."""
    location: tuple[Any, ...] = problem["loc"]
    where, value = _dotted(location) or "the config", _short(problem["input"])
    if problem["type"] == "extra_forbidden":
        return _explain_unknown(location)
    if problem["type"].startswith("union_tag"):
        tags = problem["ctx"].get("expected_tags") or "lens, scan, continuation or search"
        return f"{where}.kind is one of {tags}", value, f"set {where}.kind"
    if problem["type"] == "missing":
        return f"{where} must be given", "nothing", f"add {where} to the config, or --set {where}=..."
    if problem["type"] == "value_error":  # raised in raybt/config, as "rule; fix"
        rule, _, fix = str(problem["ctx"]["error"]).rpartition("; ")
        return f"{where}: {rule}" if location else rule, value, fix
    if problem["type"] == "string_pattern_mismatch":
        return (
            f"{where}: a name starts with a letter or digit and holds letters, digits and _ . + -",
            value,
            "rename it",
        )
    rule = problem["msg"][0].lower() + problem["msg"][1:].replace("\n", " ")
    return f"{where}: {rule}", value, f"change {where}; `raybt schema` describes it"


def _explain_unknown(location: tuple[Any, ...]) -> tuple[str, str, str]:
    known = _known_keys(location[:-1])
    match = get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    where = _dotted(location[:-1])
    fix = f"did you mean {match[0]}?" if match else "remove it"
    return f"{where or 'a config'} knows only the keys {', '.join(known)}", _dotted(location), fix


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    """Keys of the section at `location`, as a config writes them."""
    section: Any = Config
    for key in location:
        section = _within(section, key)
    return [field.alias or name for name, field in section.model_fields.items()]


def _within(annotation: Any, key: Any) -> Any:
    """The type at `key` in a value of this type; for a union, the member that `key` is the tag of."""
    fields = getattr(annotation, "model_fields", None)
    if fields:
        return _bare(next(field.annotation for name, field in fields.items() if key in (name, field.alias)))
    members = [member for member in _members(annotation) if key in (_tag(member), _kind(member))]
    if members:
        return _bare(members[0])
    parts = get_args(annotation)
    return _bare(parts[0] if get_origin(annotation) is tuple else parts[-1])


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()


def _bare(annotation: Any) -> Any:
    """Without `Annotated`."""
    return _bare(get_args(annotation)[0]) if get_origin(annotation) is Annotated else annotation


def _tag(member: Any) -> str | None:
    marks = get_args(member)[1:] if get_origin(member) is Annotated else ()
    return next((mark.tag for mark in marks if isinstance(mark, Tag)), None)


def _kind(member: Any) -> str | None:
    field = getattr(member, "model_fields", {}).get("kind")
    return get_args(field.annotation)[0] if field else None


def _untagged(location: tuple[Any, ...]) -> tuple[Any, ...]:
    """A place in the config without the names of union members that pydantic puts between its keys."""
    kept, section = [], Config
    for key in location:
        tags = {name for member in _members(section) for name in (_tag(member), _kind(member))}
        if key not in tags:
            kept.append(key)
        try:
            section = _within(section, key)
        except (IndexError, StopIteration):  # below here are plain values
            section = None
    return tuple(kept)


def _dotted(location: tuple[Any, ...]) -> str:
    return ".".join(str(key) for key in _untagged(location) if key != "[key]")


def _short(value: Any, width: int = 80) -> str:
    """One line of at most `width` characters."""
    text = repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."
