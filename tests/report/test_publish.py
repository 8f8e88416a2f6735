"""From a run folder to its report: what is read, what is written, and what goes."""

import pyarrow as pa
import pytest
import yaml

from raybt.errors import UserError
from raybt.publish import publish
from raybt.store.folder import RunFolder
from raybt.store.manifest import MANIFEST
from raybt.store.schemas import SUMMARIES
from raybt.store.schemas.study import DECISIONS, STUDY_TABLES
from tests.report.conditions import condition
from tests.report.studies import build_study


def small():
    rows = [condition("baseline", 0.4, 0.8), condition("late_mlp@0", 0.2, 0.8, subset="late", scale=0.0)]
    few = dict.fromkeys(STUDY_TABLES)
    return build_study(rows, **few | {"variants": build_study().study["variants"].to_dict("records"), "lens": []})


@pytest.fixture
def folder(tmp_path):
    folder, results = RunFolder(str(tmp_path)), small()
    folder.commit("config.yaml", yaml.safe_dump(results.config).encode())
    folder.commit_json(MANIFEST, results.manifest)
    for name, schema in (SUMMARIES | STUDY_TABLES).items():
        frame = getattr(results, name, None) if name in SUMMARIES else results.study.get(name)
        if frame is not None:
            table = pa.Table.from_pandas(frame, schema, preserve_index=False)
            folder.commit_table(f"tables/{name}.parquet", table, schema)
    assert results.decisions is not None
    decided = pa.Table.from_pandas(results.decisions, DECISIONS, preserve_index=False)
    folder.commit_table("decisions.parquet", decided, DECISIONS)
    return folder


def test_tables_that_are_there_are_told(folder):
    publish(folder)
    page = folder.read("report.md").decode()
    assert "## Prompt variants" in page and "## Decisions" in page and "## Lens" not in page
    assert folder.exists("figures/variants.svg")


def test_a_run_without_a_study_is_told_too(folder):
    for name in ("decisions.parquet", *(f"tables/{name}.parquet" for name in STUDY_TABLES)):
        if folder.exists(name):
            folder.remove(name)
    publish(folder)
    page = folder.read("report.md").decode()
    assert "## Prompt variants" not in page and "## Decisions" not in page and "## Conditions" in page


def test_figures_that_are_no_longer_drawn_go(folder):
    folder.commit("figures/curve_gone.png", b"old")
    publish(folder)
    assert not folder.exists("figures/curve_gone.png")


def test_a_run_without_tables_says_what_to_do(folder):
    folder.remove("tables/conditions.parquet")
    with pytest.raises(UserError, match="finish the run"):
        publish(folder)
