"""The documents against the code: columns, config, commands, paths, tests, and the readers that they promise."""

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import yaml

from raybt.load import validate
from raybt.report.figures import scale_curve, subset_bars
from raybt.store import schemas
from raybt.store.folder import RunFolder

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SECTIONS = {
    "prompts.parquet": schemas.PROMPTS,
    "conditions.parquet": schemas.CONDITIONS,
    "vectors.parquet": schemas.VECTORS,
    "plan.parquet": schemas.PLAN,
    "completions/*.parquet": schemas.COMPLETIONS,
    "failures/*.parquet": schemas.FAILURES,
    "events/*.parquet": schemas.EVENTS,
    "grades/*.parquet": schemas.GRADES,
    "tables/conditions.parquet": schemas.CONDITION_TABLE,
    "tables/contrasts.parquet": schemas.CONTRAST_TABLE,
    "tables/examples.parquet": schemas.EXAMPLE_TABLE,
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
    known = [schema for schema in vars(schemas).values() if isinstance(schema, pa.Schema)]
    assert len(known) == len(SECTIONS) and all(schema in known for schema in SECTIONS.values())


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_column_is_documented_with_its_type_and_no_other(heading):
    assert documented(heading) == {field.name: type_name(field.type) for field in SECTIONS[heading]}


def test_the_columns_of_figures_are_documented():
    assert set(documented("figures/*.csv")) == set(scale_curve.COLUMNS) == set(subset_bars.COLUMNS)


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


def test_every_command_in_the_readme_is_one():
    from typer.main import get_command

    from raybt.cli import app

    named = {match[1] for code in code_in(README) if (match := re.match(r"raybt ([a-z]+)", code))}
    assert named == set(get_command(app).commands)  # type: ignore


def test_every_path_in_the_readme_is_there():
    links = re.findall(r"\]\(([^)#]+)", README)
    every = [word.strip(",;()") for code in code_in(README) for word in code.split()]
    words = [word for word in every if re.fullmatch(r"[\w.-]+(/[\w.-]*)+|\w+\.(md|yaml|py|toml)", word)]
    paths = {path for path in [*links, *words] if not path.startswith(("artifacts/", ".venv/"))}
    assert len(paths) > 15
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


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


def test_every_test_named_in_the_design_is_there():
    path, missing = "", []
    for file, name in re.findall(r"`(tests/[\w/]+\.py)?(?:::(\w+))?`", (ROOT / "docs" / "design.md").read_text()):
        path = file or path
        if not re.search(rf"^def {name}\b" if name else "", (ROOT / path).read_text(), re.MULTILINE):
            missing.append(f"{path}::{name}")
    assert path and missing == []


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
