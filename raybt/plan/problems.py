"""Problems with their gold answers, from a local file, the hub, or the set that ships with raybt."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from raybt.config import SHIPPED, Fields, Problems
from raybt.errors import UserError, first_line

Record = dict[str, Any]


class Problem(NamedTuple):
    id: str
    question: str
    gold: str


def load_problems(config: Problems) -> list[Problem]:
    """The problems of a run: read, checked, shuffled if asked for, then limited.

    Raises:
        UserError: the source is missing, empty or malformed, lacks a named field, repeats an id, or has a problem
            without a question or a gold answer.
    """
    records = _read(config)
    if not records:
        raise UserError(
            "the problems must not be empty", f"{config.name} with no problems", "name another file or split"
        )
    _check_fields(records[0], config.fields)
    problems = [_problem(record, row, config.fields) for row, record in enumerate(records)]
    _check_ids(problems)
    if config.shuffle_seed is not None:
        problems = shuffled(problems, config.shuffle_seed)
    return problems[: config.limit]


def shuffled(problems: Iterable[Problem], seed: int) -> list[Problem]:
    """Order problems by blake2b(seed, id): the same whatever order they came in, and stable as others come and go."""
    return sorted(problems, key=lambda problem: blake2b(f"{seed}/{problem.id}".encode(), digest_size=16).digest())


def gold_answer(answer: str) -> str:
    """The text after the last `####` of a worked answer, else the whole; empty where there is none.

    >>> gold_answer("3 + 4 = 7 #### 7")
    '7'
    """
    return answer.rpartition("####")[2].strip()


def _read(config: Problems) -> list[Record]:
    if config.name == SHIPPED:
        from raybt.toy import PROBLEMS_FILE

        return _read_local(Path(PROBLEMS_FILE))
    path = Path(config.name).expanduser()
    if path.exists() or path.suffix in READERS or config.name.startswith((".", "/", "~")):
        return _read_local(path)
    return _read_hub(config)


def _read_local(path: Path) -> list[Record]:
    reader = READERS.get(path.suffix)
    if reader is None:
        raise UserError(f"a problem file ends in {', '.join(READERS)}", path, "convert it, for example to JSON lines")
    if not path.is_file():
        raise UserError("the problem file must exist", path, "check the path, or give a hub id such as openai/gsm8k")
    try:
        return reader(path)
    except (OSError, ValueError) as error:  # Arrow's errors and UnicodeDecodeError are ValueErrors
        raise UserError(
            "the problem file must be readable", f"{path}: {first_line(error)}", "mend or replace the file"
        ) from None


def _read_json_lines(path: Path) -> list[Record]:
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if line.strip():
            records.append(_record(line, f"{path}, line {number}"))
    return records


def _record(line: str, where: str) -> Record:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(
            "each line of the problem file must be JSON", f"{where}: {error.msg}", "mend that line"
        ) from None
    if not isinstance(record, dict):
        raise UserError("each line of the problem file must be a JSON object", where, "mend that line")
    return record


def _read_parquet(path: Path) -> list[Record]:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


READERS: dict[str, Callable[[Path], list[Record]]] = {
    ".jsonl": _read_json_lines,
    ".json": _read_json_lines,
    ".parquet": _read_parquet,
}


def _read_hub(config: Problems) -> list[Record]:
    from datasets import Dataset, load_dataset  # a second to import, and only hub data needs it

    try:
        found = load_dataset(config.name, config.subset, split=config.split, revision=config.revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            "the problems must be a local file or a data set on the hub",
            f"{config.name} ({first_line(error)})",
            "check problems.name, .subset, .split and .revision, and the network; or give a local .jsonl file",
        ) from None
    assert isinstance(found, Dataset), "a split was named, so there is one data set"
    return found.to_list()


def _check_fields(record: Record, fields: Fields) -> None:
    named = [field for field in (fields.id, fields.question, fields.answer) if field is not None]
    missing = [field for field in named if field not in record]
    if missing:
        raise UserError(
            "the problems must have the fields named under problems.fields",
            f"no field {', '.join(missing)}; there are {', '.join(map(str, record))}",
            "set problems.fields.id, .question and .answer (id: null numbers them)",
        )


def _problem(record: Record, row: int, fields: Fields) -> Problem:
    id = str(row) if fields.id is None else _text(record.get(fields.id))
    question, answer = _text(record.get(fields.question)), _text(record.get(fields.answer))
    if not id:
        raise UserError(
            "each problem needs an id", f"none in record {row}", "add one, or set problems.fields.id to null"
        )
    if not question.strip():
        raise UserError("each problem needs a question", f"none in problem {id}", "add it, or remove the problem")
    gold = gold_answer(answer)
    if not gold:
        fix = "add the answer (after ####, if the text has it), or remove the problem"
        raise UserError("each problem needs a gold answer", f"none in problem {id}", fix)
    return Problem(id, question, gold)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _check_ids(problems: list[Problem]) -> None:
    repeated = [id for id, count in Counter(problem.id for problem in problems).items() if count > 1]
    if repeated:
        more = f" and {len(repeated) - 3} more" if len(repeated) > 3 else ""
        raise UserError(
            "problem ids must be unique",
            ", ".join(repeated[:3]) + more,
            "rename them, or set problems.fields.id to null",
        )
