"""A config without a stage has its table all the same, without rows."""

import pandas as pd
import pytest

from raybt.config import Triggers
from raybt.measure.study import continuation, controls, lens, phrases, scan, search, steps, strata, survival, variants
from raybt.store.schemas import CONDITION_TABLE, CONTRAST_TABLE, EVENTS, GRADES
from raybt.store.schemas.study import LENSES, MEASUREMENTS, SCANS, STUDY_TABLES

PLAN, EVENT_ROWS, CONDITIONS, CONTRASTS = (
    schema.empty_table().to_pandas() for schema in (MEASUREMENTS, EVENTS, CONDITION_TABLE, CONTRAST_TABLE)
)
ROWS = pd.DataFrame(columns=["stage", "condition", "variant", "problem", "sample", *GRADES.names, "numerics", "error"])
FIRSTS = pd.DataFrame(columns=["key", "onset_strict", "first_token"])

MADE = {
    "lens": lambda: lens.lens_table(PLAN, LENSES.empty_table()),
    "attribution": lambda: lens.attribution_table(PLAN, LENSES.empty_table()),
    "scan": lambda: scan.scan_table(PLAN, SCANS.empty_table()),
    "steps": lambda: steps.steps_table(PLAN, SCANS.empty_table()),
    "words": lambda: steps.words_table(PLAN, SCANS.empty_table(), ["But"]),
    "continuations": lambda: continuation.continuations_table(PLAN, FIRSTS, EVENT_ROWS),
    "controls": lambda: controls.controls_table(CONDITIONS, CONTRASTS, {}),
    "strata": lambda: strata.strata_table(ROWS),
    "survival": lambda: survival.survival_table(ROWS),
    "placement": lambda: survival.placement_table(ROWS),
    "phrases": lambda: phrases.phrases_table(ROWS, EVENT_ROWS, Triggers()),
    "variants": lambda: variants.variants_table(ROWS),
    "search": lambda: search.search_table(pd.DataFrame()),
}


@pytest.mark.parametrize("name", STUDY_TABLES)
def test_every_table_has_its_schema_without_rows(name):
    table = MADE[name]()
    assert table.schema == STUDY_TABLES[name] and table.num_rows == 0
