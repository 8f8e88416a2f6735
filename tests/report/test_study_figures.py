"""The study's figures: which are drawn, from which rows, and what stands in them."""

from io import BytesIO
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from raybt.report import figures
from raybt.report.document import compose
from raybt.report.figures import drawings, trade_off
from raybt.report.pages import html_page, markdown_page
from raybt.store.schemas import CONDITION_TABLE
from raybt.store.schemas.study import STUDY_TABLES
from tests.report import study_tables

OF_TABLES = {
    "lens": {"lens_lens"},
    "attribution": {"attribution_lens"},
    "scan": {"scan_scan", "heads_scan"},
    "words": {"words_continuation"},
    "strata": {"strata_sweep"},
    "survival": {"survival_sweep"},
    "placement": {"placement_sweep"},
    "phrases": {"phrases_sweep"},
    "variants": {"variants"},
    "search": {"search_search"},
}
OF_CONDITIONS = {
    "bars_sweep", "bars_layers", "bars_best", "curve_sweep", "layers_layers", "cumulative_best",
    "tradeoff_sweep", "tradeoff_layers", "tradeoff_best",
}  # fmt: skip


def named(results):
    return {drawing.name: drawing for found in drawings(results).values() for drawing in found}


@pytest.fixture(scope="module")
def drawn(studied):
    return named(studied)


def markers(axes, *kinds):
    return [line for line in axes.lines if line.get_marker() in kinds and len(line.get_xdata()) == 1]


def is_hollow(line):
    return to_hex(line.get_markerfacecolor()) == "#ffffff"


def titled(drawing, title):
    return next(axes for axes in drawing.figure.axes if axes.get_title(loc="left").strip() == title)


def test_every_measurement_has_its_figures(drawn, study_files):
    assert set(drawn) == OF_CONDITIONS.union(*OF_TABLES.values())
    assert {f"figures/{name}.{kind}" for name in drawn for kind in ("png", "svg", "csv")} <= set(study_files)


def test_captions_and_descriptions_say_something(drawn):
    for drawing in drawn.values():
        assert len(drawing.caption) > 300 and drawing.caption.endswith(".")
        assert len(drawing.alt) > 60 and drawing.alt.endswith(".") and "`" not in drawing.alt


def test_same_input_same_bytes(drawn, make_study, study_files):
    """The pictures were drawn twice, once for the files."""
    for name, drawing in drawn.items():
        assert (drawing.svg(), drawing.csv()) == (
            study_files[f"figures/{name}.svg"],
            study_files[f"figures/{name}.csv"],
        )
    assert drawn["survival_sweep"].png() == study_files["figures/survival_sweep.png"]
    pages = html_page(compose(make_study(), {})), markdown_page(compose(make_study(), {}))
    assert pages == (html_page(compose(make_study(), {})), markdown_page(compose(make_study(), {})))


def test_data_are_the_tables_rows(drawn, studied):
    for table, names in OF_TABLES.items():
        for name in names:
            data = pd.read_csv(BytesIO(drawn[name].csv()))
            assert len(data) and set(data.columns) <= set(STUDY_TABLES[table].names)
    lens = pd.read_csv(BytesIO(drawn["lens_lens"].csv()))
    assert list(lens["log_probability"]) == pytest.approx(list(studied.study["lens"]["log_probability"]))
    for name in OF_CONDITIONS:
        assert set(drawn[name].data.columns) <= set(CONDITION_TABLE.names)


@pytest.mark.parametrize("table", OF_TABLES)
@pytest.mark.parametrize("rows", [None, []])
def test_no_table_no_figure(make, table, rows):
    results = make([])
    results.study.update({name: study_tables.table([], schema) for name, schema in STUDY_TABLES.items()})
    if rows is None:
        del results.study[table]
    assert not drawings(results)


def test_runs_without_a_study_have_the_figures_they_had(results):
    assert set(named(results)) == {"bars_sweep", "curve_sweep", "tradeoff_sweep"}


def test_controls_stand_below_their_target_and_nowhere_else(drawn):
    onset = drawn["bars_sweep"].figure.axes[0]
    labels = [label.get_text() for label in onset.get_yticklabels()]
    assert len(labels) == 9 and not any("control" in label for label in labels)
    lane = labels.index("late_mlp@0") + 0.2
    subsets, directions = markers(onset, "o"), markers(onset, "^")
    assert len(subsets) == len(directions) == 20
    assert {round(line.get_ydata()[0], 3) for line in subsets} == {round(lane, 3)}
    assert {line.get_ydata()[0] > lane for line in directions} == {True}
    assert sum(map(is_hollow, subsets)) == 1  # the one that collapsed
    bands = [patch for patch in onset.patches if patch.get_height() == pytest.approx(0.17)]
    assert [band.get_x() for band in bands] == pytest.approx([0.405, 0.405])
    assert [band.get_width() for band in bands] == pytest.approx([0.095, 0.095])


def test_controls_are_in_no_curve_and_faint_in_the_trade_off(drawn):
    assert not drawn["curve_sweep"].data["subset"].str.contains("control").any()
    (axes, _) = drawn["tradeoff_sweep"].figure.axes
    assert len([line for line in axes.lines if line.get_alpha() == 0.55]) == 40


def test_what_a_search_only_tried_is_in_no_other_figure(drawn):
    assert not any("rung" in name or "confirm" in name for name in drawn)


def test_layers_and_best_sites_stand_at_their_numbers(drawn):
    for kind, broken in (("Attention", [0]), ("MLP", [])):
        axes = titled(drawn["layers_layers"], kind)
        onsets = markers(axes, "o")
        assert [line.get_xdata()[0] for line in onsets] == [0, 1, 2, 3, 4, 5]
        assert [line.get_xdata()[0] for line in onsets if is_hollow(line)] == broken
    assert markers(titled(drawn["layers_layers"], "MLP"), "o")[3].get_ydata()[0] == 0.1
    (axes,) = drawn["cumulative_best"].figure.axes
    assert [line.get_xdata()[0] for line in markers(axes, "s")] == [1, 2, 3, 4]


def test_the_front_holds_what_no_other_beats(make_condition):
    rows = [
        make_condition("baseline", 0.4, 0.8),
        make_condition("cheap", 0.3, 0.8),
        make_condition("strong", 0.1, 0.7),
        make_condition("worse", 0.2, 0.6),
        make_condition("broken", 0.0, 0.9, because="accuracy at chance"),
        make_condition("lucky", 0.0, 0.95, role="control", control_of="cheap"),
    ]
    assert [row["condition"] for row in trade_off.front(rows)] == ["strong", "cheap"]


def test_collapsed_points_do_not_press_the_rest_together(drawn):
    (axes, key) = drawn["tradeoff_sweep"].figure.axes
    low, _ = axes.get_ylim()
    assert low > 0.5  # the collapsed have 3% and 45%
    hollow = [line for line in markers(axes, "o") if is_hollow(line) and line.get_alpha() is None]
    assert [line.get_ydata()[0] for line in hollow] == [low, low]
    assert "early_attn@0  (collapsed)" in key.texts[0].get_text()


def test_the_map_marks_what_the_verdicts_say(drawn):
    for axes in drawn["scan_scan"].figure.axes[:2]:
        assert [label.get_text() for label in axes.get_xticklabels()] == [
            "attn\nzero", "attn\nmean", "mlp\nzero", "mlp\nmean",
        ]  # fmt: skip
        frames = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        assert sum(bool(patch.get_hatch()) for patch in frames) == 2  # attn.0, twice
        assert sorted(patch.get_xy()[1] // 1 for patch in frames if not patch.get_hatch()) == [3, 3]
        values = axes.collections[0].get_array()
        assert values.mask.sum() == 2  # an effect on a broken model has no colour
        assert sum(text.get_text() == "·" for text in axes.texts) == 2
    values = drawn["scan_scan"].figure.axes[0].collections[0].get_array().reshape(6, 4)
    assert values[3, 2] == values[3, 3] == 0.61
    assert "mlp.3 (zero)" in drawn["scan_scan"].alt


def test_heads_of_both_operations_share_one_scale(drawn):
    first, second = drawn["heads_scan"].figure.axes[:2]
    assert first.collections[0].get_clim() == second.collections[0].get_clim()
    assert first.collections[0].get_array().shape == (6, 4)


def test_the_lens_reads_twice_a_layer(drawn, studied):
    above, below = drawn["lens_lens"].figure.axes
    onsets = studied.study["lens"].query("role == 'onset'")
    line = next(line for line in above.lines if len(line.get_xdata()) == 12)
    assert list(line.get_xdata()) == [place / 2 for place in range(12)]
    assert list(line.get_ydata()) == list(onsets["log_probability"])
    assert len(above.collections) == 3 * 2 and below.get_ylim()[0] > below.get_ylim()[1]  # rank 0 is on top


def test_strata_and_variants_hold_the_tables_values(drawn):
    counts = [text.get_text() for text in drawn["strata_sweep"].figure.axes[-1].texts]
    assert counts == ["41 / 55"] * 3
    onset = drawn["variants"].figure.axes[0]
    assert [line.get_xdata()[0] for line in markers(onset, "o")] == [0.432, 0.451, 0.211]
    assert [band.get_x() for band in onset.patches] == [0.31] * 3


def test_names_at_the_ends_of_lines_do_not_overlap(make_study, make_condition):
    hazards = {"baseline": 0.006} | {f"subset_{i}@0": 0.0055 + 0.0001 * i for i in range(7)}
    rows = [make_condition(name, 0.4, 0.8) for name in hazards]
    drawing = named(make_study(rows, survival=study_tables.survival(hazards)))["survival_sweep"]
    drawing.svg()  # lays the figure out
    assert len(drawing.figure.axes) == 2  # five conditions a panel
    for axes in drawing.figure.axes:
        names = (Text.get_window_extent(text) for text in axes.texts)  # without the leads
        boxes = sorted(names, key=lambda box: box.y0)
        assert all(upper.y0 >= lower.y1 - 1 for lower, upper in pairwise(boxes))


def test_search_panels_are_rungs_and_the_confirmation(drawn):
    titles = [axes.get_title(loc="left").strip() for axes in drawn["search_search"].figure.axes]
    assert list(filter(None, titles)) == ["Rung 1 of 3", "Rung 2 of 3", "Rung 3 of 3", "Confirmation"]
    stars = [len(markers(axes, "*")) for axes in drawn["search_search"].figure.axes]
    assert stars[:4] == [0, 0, 1, 1]
    first = drawn["search_search"].figure.axes[0]
    assert [is_hollow(line) for line in markers(first, "o")].count(True) == 1


def test_more_conditions_than_a_page_holds(make_study, make_condition, make_controls):
    random = np.random.default_rng(0)
    rows = [make_condition("baseline", 0.43, 0.86)]
    for i in range(90):
        rate = float(random.uniform(0.05, 0.6))
        rows.append(make_condition(f"s{i}@0", rate, 0.8, subset=f"s{i}", scale=0.0, finding="no evidence"))
    rows += make_controls(rows[1], "control", count=3)
    found = named(make_study(rows, strata=study_tables.strata(tuple(row["condition"] for row in rows[:91]))))
    bars = found["bars_sweep"]
    _, height = bars.figure.get_size_inches()
    labels = [label.get_text() for label in bars.figure.axes[0].get_yticklabels()]
    assert height < 18 and 35 < len(labels) < 60 and labels[0] == "baseline"
    assert bars.note.startswith(f"{91 - len(labels)} conditions") and len(bars.data) == 94
    shown = {row["condition"] for row in rows[1:91] if abs(row["onset_rate"] - 0.43) > 0.3}
    assert shown <= set(labels)  # those that do most
    strata = found["strata_sweep"]
    assert len(strata.figure.axes[0].get_yticklabels()) == 25 and strata.note.startswith("66 conditions")


def test_every_module_is_listed_once():
    modules = [module for found in figures.FIGURES.values() for module in found]
    assert len(modules) == len(set(modules)) == 14
