"""The figures: files, artists, edge cases."""

import warnings
from io import BytesIO
from itertools import pairwise
from xml.etree import ElementTree

import pandas as pd
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from raybt.report import render
from raybt.report.figures import drawings


def named(results):
    return {drawing.name: drawing for found in drawings(results).values() for drawing in found}


def is_hollow(bar):
    return to_hex(bar.get_facecolor()) == "#ffffff" and bool(bar.get_hatch())


def bars(axes):
    return [patch for patch in axes.patches if patch.get_height() == pytest.approx(0.66)]


def labels(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_files_are_pictures_and_data(results, files):
    stems = {"figures/bars_sweep", "figures/curve_sweep", "figures/tradeoff_sweep"}
    assert {name.split(".")[0] for name in files} == {"report", *stems}
    for stem in stems:
        width, height = Image.open(BytesIO(files[f"{stem}.png"])).size
        assert width == 1600 and 400 < height < 3000
        assert ElementTree.fromstring(files[f"{stem}.svg"]).tag.endswith("svg")
    data = pd.read_csv(BytesIO(files["figures/bars_sweep.csv"]))
    pd.testing.assert_series_equal(data["onset_rate_low"], results.conditions["onset_rate_low"])
    curve = pd.read_csv(BytesIO(files["figures/curve_sweep.csv"]))
    assert list(curve["scale"]) == [0, 0.5, 0.9, 1] * 2
    assert list(curve["condition"][curve["scale"] == 1]) == ["baseline"] * 2


def test_collapsed_bars_are_hollow_and_others_full(results):
    for axes in named(results)["bars_sweep"].figure.axes:
        found = bars(axes)
        assert len(found) == 8  # the condition without rows has none
        assert [is_hollow(bar) for bar in found] == [False] * 4 + [True] * 2 + [False] * 2


def test_bars_hold_the_tables_values(results):
    onset, accuracy = named(results)["bars_sweep"].figure.axes
    done = results.conditions[results.conditions["done"] > 0]
    assert [bar.get_width() for bar in bars(onset)] == list(done["onset_rate"])
    assert [bar.get_width() for bar in bars(accuracy)] == list(done["accuracy_all"])
    assert labels(onset) == list(results.conditions["condition"])
    texts = [text.get_text() for text in accuracy.texts]
    assert "96/96" in texts and "0/96" in texts and "no completed rows" in texts


def test_collapsed_points_are_hollow(results):
    panels = {axes.get_title(loc="left").strip(): axes for axes in named(results)["curve_sweep"].figure.axes}
    assert set(panels) == {"late_mlp", "early_attn"}
    for name, n_hollow in (("late_mlp", 0), ("early_attn", 2)):
        points = [line for line in panels[name].lines if line.get_marker() in ("o", "s")]
        assert len(points) == 8
        assert sum(to_hex(line.get_markerfacecolor()) == "#ffffff" for line in points) == 2 * n_hollow


def test_variants_have_panels_of_their_own(make, make_sweep):
    found = named(make([*make_sweep(), *make_sweep(variant="think")]))
    assert len(found["bars_sweep"].figure.axes) == 4
    titles = [axes.get_title(loc="left").strip() for axes in found["curve_sweep"].figure.axes]
    assert titles == ["late_mlp · default", "early_attn · default", "late_mlp · think", "early_attn · think"]


def test_fifty_six_conditions_do_not_overlap(many):
    found = named(many)["bars_sweep"]
    found.svg()  # lays the figure out
    boxes = [label.get_window_extent() for label in found.figure.axes[0].get_yticklabels()]
    assert len(boxes) == 57
    tops = sorted((box.y0, box.y1) for box in boxes)
    assert all(upper[0] >= lower[1] for lower, upper in pairwise(tops))
    assert min(box.x0 for box in boxes) >= 0


def edge_cases(condition):
    nothing = {"done": 0, "missing": 96, "problems": 0, "finding": "incomplete"}
    baseline = condition("baseline", 0.4, 0.8)
    return {
        "baseline alone": [baseline],
        "one condition": [baseline, condition("x@0", 0.2, 0.7, subset="x", scale=0.0)],
        "no baseline": [condition("x@0", 0.2, 0.7, subset="x", scale=0.0)],
        "one problem, so no intervals": [baseline | {"onset_rate_low": None, "onset_rate_high": None}],
        "nothing done": [
            condition("baseline", None, None, **nothing),
            *[condition(f"x@{s}", None, None, subset="x", scale=s, **nothing) for s in (0.0, 0.5, 0.9)],
        ],
        "long and odd names": [
            baseline,
            *[condition("a-$very$_long.name+" * 4, 0.2, 0.7, subset="y" * 80, scale=s) for s in (-1.0, 0.0, 2.0)],
        ],
        "scale 1 among the conditions": [
            baseline, *[condition(f"x@{s}", 0.4, 0.8, subset="x", scale=s) for s in (0.0, 0.5, 1.0)],
        ],
        "nothing planned": [],
    }  # fmt: skip


@pytest.mark.parametrize("case", edge_cases(lambda *_, **__: {}))
def test_edges_render_without_warnings(make, make_condition, case):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = render(make(edge_cases(make_condition)[case], examples=[]))
    assert {"report.html", "report.md"} < set(files) or case == "nothing planned"


def test_user_settings_neither_leak_in_nor_change(results):
    import matplotlib

    before = named(results)["curve_sweep"].svg()
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9}):
        assert named(results)["curve_sweep"].svg() == before
        assert matplotlib.rcParams["font.size"] == 30
