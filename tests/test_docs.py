"""The documents against the code: columns, config, commands, paths, tests, and the readers that they promise."""

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import yaml

from raybt.load import validate
from raybt.report import figures
from raybt.store import schemas
from raybt.store.folder import RunFolder
from raybt.store.schemas import study
from raybt.study import select

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SECTIONS = {
    "prompts.parquet": schemas.PROMPTS,
    "conditions.parquet": schemas.CONDITIONS,
    "vectors.parquet": schemas.VECTORS,
    "plan.parquet": schemas.PLAN,
    "decisions.parquet": study.DECISIONS,
    "measurements.parquet": study.MEASUREMENTS,
    "texts.parquet": study.TEXTS,
    "completions/*.parquet": schemas.COMPLETIONS,
    "lenses/*.parquet": study.LENSES,
    "scans/*.parquet": study.SCANS,
    "failures/*.parquet": schemas.FAILURES,
    "events/*.parquet": schemas.EVENTS,
    "grades/*.parquet": schemas.GRADES,
    "tables/conditions.parquet": schemas.CONDITION_TABLE,
    "tables/contrasts.parquet": schemas.CONTRAST_TABLE,
    "tables/examples.parquet": schemas.EXAMPLE_TABLE,
    **{f"tables/{name}.parquet": schema for name, schema in study.STUDY_TABLES.items()},
}
EVERY_SCHEMA = pytest.mark.parametrize("schema", SECTIONS.values(), ids=SECTIONS)


def documented(heading: str) -> dict[str, str]:
    """Column -> type, from the table under a heading of run-folder.md; a column named twice fails."""
    text = (ROOT / "docs" / "run-folder.md").read_text()
    _, found, section = text.partition(f"\n### `{heading}`\n")
    assert found, f"no heading for {heading}"
    rows = [row.split("|")[1:3] for row in re.split(r"\n##", section)[0].splitlines() if row.startswith("| `")]
    columns = [(name, kind.strip(" `")) for names, kind in rows for name in re.findall(r"`(\w+)`", names)]
    assert len(dict(columns)) == len(columns)
    return dict(columns)


def type_name(kind: pa.DataType) -> str:
    """A type without the names that its writer gives to list elements."""
    return re.sub(r"list<\w+: ", "list<", str(kind))


def test_every_schema_has_a_section():
    everything = {**vars(schemas), **vars(study)}
    known = [schema for schema in everything.values() if isinstance(schema, pa.Schema)]
    assert len(known) == len(SECTIONS) and all(schema in known for schema in SECTIONS.values())


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_column_is_documented_with_its_type_and_no_other(heading):
    assert documented(heading) == {field.name: type_name(field.type) for field in SECTIONS[heading]}


def documented_figures() -> dict[str, str]:
    """Beginning of a figure's name -> the table that its rows are from."""
    text = (ROOT / "docs" / "run-folder.md").read_text().partition("\n## Figures\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", text, re.MULTILINE))


def test_figures_are_drawn_from_the_tables_that_the_documents_name():
    tables = {**schemas.SUMMARIES, **study.STUDY_TABLES}
    modules = [module for modules in figures.FIGURES.values() for module in modules]
    named = documented_figures()
    for module in modules:
        source = Path(module.__file__).read_text()
        begins = [name for name in named if re.search(rf'f"{name}\{{' if name[-1] == "_" else f'"{name}"', source)]
        assert begins, module.__name__
        for name in begins:
            assert set(module.COLUMNS) <= set(tables[named[name]].names), (module.__name__, name)
    everything = "".join(Path(module.__file__).read_text() for module in modules)
    assert all(re.search(rf'f?"{name}', everything) for name in named)


def test_the_config_in_the_readme_is_one():
    (example,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    config = validate(yaml.safe_load(example))
    assert config.interventions.grids and len(config.prompt.variants) == 2


def code_in(text: str) -> list[str]:
    """What stands between backticks, and the lines of blocks of code, the YAML aside."""
    text = re.sub(r"```yaml\n.*?```", "", text, flags=re.DOTALL)
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [*spans, *[line for block in blocks for line in block.splitlines()]]


def raybt_commands() -> set[str]:
    from typer.main import get_command

    from raybt.cli import app

    return set(get_command(app).commands)  # type: ignore


def test_every_command_in_the_readme_is_one():
    named = {match[1] for code in code_in(README) if (match := re.match(r"raybt ([a-z]+)", code))}
    assert named == raybt_commands()


def paths_in(text: str) -> set[str]:
    """Files and folders of the checkout that a document names in code."""
    every = [word.strip(",;()") for code in code_in(text) for word in code.split()]
    words = [word for word in every if re.fullmatch(r"[\w.-]+(/[\w.-]*)+|\w+\.(md|yaml|py|toml)", word)]
    return {path for path in words if not path.startswith(("artifacts/", ".venv/"))}


def test_every_path_in_the_readme_is_there():
    paths = paths_in(README) | set(re.findall(r"\]\(([^)#]+)", README))
    assert len(paths) > 15
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_every_path_command_table_and_column_in_the_study_is_there():
    study_md = (ROOT / "docs" / "study.md").read_text()
    assert [path for path in sorted(paths_in(study_md)) if not (ROOT / path).exists()] == []
    commands = {match[1] for code in code_in(study_md) if (match := re.match(r"raybt ([a-z]+)", code))}
    assert {"plan", "run", "submit"} <= commands <= raybt_commands()
    shown = re.search(r"\n## Reading the tables and figures\n(.*?)\n## ", study_md, re.DOTALL)
    rows = [row.split("|")[2:4] for row in shown[1].splitlines() if row.startswith("| ") and "`" in row]  # type: ignore
    tables, names = (
        {name for cell in column for name in re.findall(r"`(\w+)`", cell)} for column in zip(*rows, strict=True)
    )
    assert tables <= {*schemas.SUMMARIES, *study.STUDY_TABLES} and names == set(documented_figures())
    verdicts = re.findall(
        r"^\| `([a-z ]+)` \| ", study_md.partition("Each site gets")[2].partition("\n## ")[0], re.MULTILINE
    )
    assert verdicts == list(select._MANY)


def test_every_link_between_documents_leads_somewhere():
    for document in [ROOT / "README.md", ROOT / "cluster" / "README.md", *(ROOT / "docs").glob("*.md")]:
        for path, anchor in re.findall(r"\]\(([^)#:]*)#?([^)]*)\)", document.read_text()):
            target = document.parent / path if path else document
            headings = [
                re.sub(r"[^\w -]", "", line.lstrip("# ")) for line in target.read_text().splitlines() if line[:1] == "#"
            ]
            assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}, (
                document,
                anchor,
            )


@pytest.mark.parametrize("document", ["design.md", "study.md"])
def test_every_test_named_in_a_document_is_there(document):
    path, missing = "", []
    for file, name in re.findall(r"`(tests/[\w/]+\.py)?(?:::(\w+))?`", (ROOT / "docs" / document).read_text()):
        path = file or path
        if not re.search(rf"^def {name}\b" if name else "", (ROOT / path).read_text(), re.MULTILINE):
            missing.append(f"{path}::{name}")
    assert path and missing == []


def test_every_file_that_the_design_lists_is_there():
    section = (
        (ROOT / "docs" / "design.md").read_text().partition("\n## Stages, waves, decisions\n")[2].partition("\n## ")[0]
    )
    for room, text in zip(("study", "fleet"), section.split("`raybt/fleet/` runs it:"), strict=True):
        named = {name for name in re.findall(r"`(\w+\.py)`", text) if name != "decide.py" or room == "study"}
        assert named and all((ROOT / "raybt" / room / name).exists() for name in named), named
    there = {path.name for path in (ROOT / "raybt" / "study").glob("*.py")} - {"__init__.py"}
    assert there == set(re.findall(r"^\| `(\w+\.py)`", section, re.MULTILINE))


def value(kind: pa.DataType, number: int):
    """Something of this type that no careless conversion keeps."""
    if pa.types.is_list(kind):
        return [value(kind.value_type, each) for each in range(number)]
    if pa.types.is_struct(kind):
        return {kind.field(i).name: value(kind.field(i).type, number) for i in range(kind.num_fields)}
    if pa.types.is_string(kind):
        return f"é\n{number}"
    if pa.types.is_boolean(kind):
        return number % 2 == 0
    return number + 0.5 if pa.types.is_floating(kind) else number


def contents(schema: pa.Schema) -> dict[str, pa.Table]:
    full = [{field.name: value(field.type, number) for field in schema} for number in range(3)]
    rows = {"empty": [], "null": [dict.fromkeys(schema.names)] * 2, "full": full}
    return {name: pa.Table.from_pylist(lines, schema=schema) for name, lines in rows.items()}


@pytest.fixture
def written(tmp_path, schema):
    """Content -> path of a table of this schema, written as a run writes it; and the table."""
    folder = RunFolder(str(tmp_path / "run"))
    for name, table in contents(schema).items():
        folder.commit_table(f"{name}.parquet", table, schema)
    return {name: (folder.path(f"{name}.parquet"), table) for name, table in contents(schema).items()}


@EVERY_SCHEMA
def test_pandas_reads_every_table(schema, written):
    for path, table in written.values():
        plain, exact = pd.read_parquet(path), pd.read_parquet(path, dtype_backend="pyarrow")
        assert list(plain.columns) == schema.names and len(plain) == len(table)
        assert [type_name(kind.pyarrow_dtype) for kind in exact.dtypes] == [type_name(kind) for kind in schema.types]
        assert pa.Table.from_pandas(exact, schema=schema, preserve_index=False).to_pylist() == table.to_pylist()


@EVERY_SCHEMA
def test_duckdb_reads_every_table(schema, written):
    import duckdb

    for path, table in written.values():
        with duckdb.connect() as connection:
            read = connection.sql(f"select * from '{path}'").to_arrow_table()
        assert [type_name(kind) for kind in read.schema.types] == [type_name(kind) for kind in schema.types]
        assert read.to_pylist() == table.to_pylist()


@EVERY_SCHEMA
def test_datasets_reads_every_table_also_beside_an_empty_one(schema, written, tmp_path):
    from datasets import load_dataset

    files = [path for path, _ in written.values()]  # the empty one first, as a shard without events may be
    read = load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert [type_name(kind) for kind in read.features.arrow_schema.types] == [type_name(kind) for kind in schema.types]
    assert read.to_list() == [row for _, table in written.values() for row in table.to_pylist()]
