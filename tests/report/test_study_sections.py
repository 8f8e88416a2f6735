"""What the report says of a study, against the numbers that its tables were built with."""

import pytest

from raybt.report.document import compose
from raybt.report.opening import opening
from raybt.report.pages import html_page
from tests.report import study_tables
from tests.report.test_report_html import Page

TITLES = (
    "Search", "Controls", "Prompt variants", "Accuracy and onsets", "Onsets along the text", "Scan", "Lens",
    "Attribution", "Continuation", "Decisions",
)  # fmt: skip


def sections(results):
    return {section.title: section.blocks for section in compose(results, {}).sections}


def said(results, title):
    return " ".join(block.text for block in sections(results)[title] if block.kind == "paragraph")


def tables(results, title):
    return [block for block in sections(results)[title] if block.kind == "table"]


def rows_of(table):
    """First cell -> the others, text and detail apart."""
    return {row.cells[0].text: [(cell.text, cell.detail) for cell in row.cells[1:]] for row in table.rows}


def opened(results):
    return [block.text for block in opening(results)]


def test_a_section_for_each_measurement_and_none_without(studied, make, make_sweep):
    assert [title for title in sections(studied) if title in TITLES] == list(TITLES)
    assert not set(TITLES) & set(sections(make(make_sweep())))


@pytest.mark.parametrize("table", ["lens", "attribution", "scan", "variants", "strata", "search"])
def test_an_empty_table_is_no_section(make_study, table):
    title = {"lens": "Lens", "variants": "Prompt variants", "strata": "Accuracy and onsets"}.get(table, table.title())
    assert title not in sections(make_study(**{table: []}))


def test_every_table_has_its_counts(studied):
    for title in TITLES[2:-1]:
        for table in tables(studied, title):
            heads = " ".join(column.title for column in table.columns).lower()
            assert "done" in heads, table.caption
            assert all(len(row.cells) == len(table.columns) for row in table.rows)
    for title in ("Search", "Scan", "Lens", "Prompt variants"):
        heads = [column.title for column in tables(studied, title)[0].columns]
        assert {"Planned", "Done", "Failed", "Problems"} <= set(heads)


def test_controls_are_counted_and_listed_nowhere_else(studied):
    text = said(studied, "Controls")
    assert "ran 20 matched random subsets and 20 random directions as controls: of 3,840 planned completions" in text
    assert "3,840 are done, 0 failed and 0 are missing. Under 2 of these 40 the model collapsed" in text
    assert "Of 1 target that did not collapse, 1 changes the onset rate more than matched random subsets do" in text
    assert "`late_mlp@0` (p = 0.048)" in text
    for title in ("Conditions", "Contrasts with the baseline", "Side by side", "More about each condition"):
        cells = [cell.text for table in tables(studied, title) for row in table.rows for cell in row.cells]
        assert not any(".control" in text or ".direction" in text for text in cells)
        assert not any("rung" in table.caption for table in tables(studied, title))


def test_the_controls_table(make_study):
    rows = [*study_tables.controls(), *study_tables.controls(condition="early_attn@0", p=0.7, as_extreme=13)]
    (table,) = tables(make_study(controls=rows), "Controls")
    onset, _, broken, _ = table.rows
    assert [cell.text for cell in onset.cells] == [
        "`late_mlp@0`", "Onset rate", "matched random subsets", "−21.8", "20", "0", "0.048", "0.048", "−2.0", "15.0%",
    ]  # fmt: skip
    assert onset.cells[8].detail == "[−9.0, +5.0]"
    assert broken.tone == "collapsed" and "collapsed" in broken.cells[0].detail
    assert "Of 1 target that did not collapse" in said(make_study(controls=rows), "Controls")


def test_no_target_beats_its_controls(make_study):
    results = make_study(controls=study_tables.controls(p=0.33, as_extreme=6))
    assert "Of 1 target that did not collapse, none changes the onset rate more" in said(results, "Controls")
    few = make_study(controls=study_tables.controls(p=0.25, as_extreme=0, count=3))
    assert "For 1 target no p under 0.05 is possible" in said(few, "Controls")


def test_a_target_no_better_than_its_controls_is_no_claim(make_study):
    results = make_study(controls=study_tables.controls(p=0.33, as_extreme=6))
    blocks = opened(results)
    assert not any("lowers the onset rate with no measured loss" in text for text in blocks)
    (objection,) = (text for text in blocks if "no claim rests on it" in text)
    assert objection.startswith("One condition changes the onset rate, but no claim rests on it")
    assert "no larger than that of matched random subsets (6 of 20 are as extreme, p = 0.330)" in objection


def test_a_target_better_than_its_controls_is_one(studied):
    text = " ".join(opened(studied))
    assert "One condition lowers the onset rate with no measured loss of accuracy: `late_mlp@0`" in text
    assert "no claim rests on it" not in text


def test_both_kinds_of_controls_must_be_beaten(make_study):
    rows = [*study_tables.controls(), *study_tables.controls(against="directions", p=0.2, as_extreme=3)]
    text = " ".join(opened(make_study(controls=rows)))
    assert "no larger than that of random directions (3 of 20 are as extreme, p = 0.200)" in text
    assert "`late_mlp@0` in stage `sweep` (onset rate" not in text


def test_too_few_controls_are_no_evidence(make_study):
    results = make_study(controls=study_tables.controls(p=0.25, as_extreme=0, count=3))
    assert "its 3 matched random subsets are too few to tell" in " ".join(opened(results))


def test_none_qualifies_names_the_controls(make_study, make_condition):
    rows = [
        make_condition("baseline", 0.432, 0.858),
        make_condition("late_mlp@0", 0.214, 0.843, subset="late_mlp", scale=0.0, finding="lowers"),
    ]
    blocks = opened(make_study(rows, controls=study_tables.controls(p=0.33, as_extreme=6)))
    assert any(text.startswith("No condition qualifies") and "more than random controls do" in text for text in blocks)


def test_the_opening_leads_with_the_confirmation(studied):
    first, second, *_ = opened(studied)[1:]  # after the note on missing rows
    assert first.startswith("The search `search` chose `late@0`, and on 40 problems that had no part in the choice")
    assert "it is confirmed." in first
    assert "from 43.0% to 13.0%, −30.0 percentage points (95% interval −37.8 to −22.2), a cut by 69.8%" in first
    assert "accuracy from 86.0% to 84.0%, −2.0 percentage points (95% interval −9.8 to +5.8)" in first
    assert "160 pairs of completions, 1 lost" in first
    assert "The search planned 768 completions, 768 done and 0 failed" in second


def test_what_a_search_tried_is_no_claim(studied):
    """Its rungs stand in the conditions table with findings of their own."""
    assert not any("`late@0`" in text for text in opened(studied)[2:])


def test_a_winner_that_does_not_hold(make_study):
    results = make_study(search=study_tables.search("not confirmed"), confirmed=False)
    text = said(results, "Search")
    assert "it is not confirmed: accuracy may fall by 9.1 points. There" in text


def test_the_tables_verdict_counts_where_no_decision_was_kept(make_study):
    assert "it is not confirmed." in said(
        make_study(search=study_tables.search("not confirmed"), confirmed=None), "Search"
    )


def test_none_within_the_margin_is_a_result(make_study):
    results = make_study(search=study_tables.search("none"), confirmed=None)
    text = said(results, "Search")
    assert "found none within the margin: no candidate of its last rung cuts the onset rate by 50.0% or more" in text
    assert "and costs at most 5.0 points of accuracy. That is a result" in text
    assert "The search `search` found none within the margin" in " ".join(opened(results))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row for row in study_tables.search() if row["rung"] == 1], "has not ended: 1 of 3 rungs are judged"),
        ([row for row in study_tables.search() if row["phase"] == "select"], "has a winner that is not confirmed yet"),
    ],
)
def test_a_search_on_its_way(make_study, rows, words):
    assert words in said(make_study(search=rows, confirmed=None), "Search")


def test_search_tables_hold_what_ran(studied):
    captions = [table.caption for table in tables(studied, "Search")]
    assert [caption.split(", ")[1] for caption in captions] == ["confirmation", "rung 3", "rung 2", "rung 1"]
    confirmation = rows_of(tables(studied, "Search")[0])["`late@0`"]
    assert [text for text, _ in confirmation[:8]] == ["2", "0", "96", "96", "0", "40", "160", "1"]
    assert confirmation[8] == ("−30.0", "[−37.8, −22.2]") and confirmation[-1] == ("confirmed", "")
    text = said(studied, "Search")
    assert "7 candidates on 8 problems, 3 candidates on 16 problems and 2 candidates on 32 problems" in text


def test_prompt_variants(studied, make_study):
    text = said(studied, "Prompt variants")
    assert "Under `none` the model backtracks in 21.1% of its completions, −22.1 percentage points" in text
    assert "from `default`" in text and "The onset rates under `default`, `think` and `none` lie outside" in text
    assert "Under `think`" not in text
    same = [row | {"band_low": 0.2, "band_high": 0.5, "p_holm": 0.6} for row in study_tables.variants()]
    text = said(make_study(variants=same), "Prompt variants")
    assert "Every onset rate lies in the band" in text and "No variant's onset rate differs" in text
    assert "Prompt variants" not in sections(make_study(variants=same[:1]))


def test_accuracy_and_onsets(studied, make_study):
    text = said(studied, "Accuracy and onsets")
    assert "Of the baseline completions 72.0% of the 41 with an onset are right, and 82.0% of the 55 without" in text
    assert "Within the 19 problems that have both kinds the difference is −10.0 percentage points" in text
    assert "completions with an onset are less often right" in text
    rows = study_tables.strata()
    for row in rows:
        if row["stratum"] == "difference":
            row["accuracy_high"] = 0.02
    assert "too little to say" in said(make_study(strata=rows), "Accuracy and onsets")
    (table,) = tables(studied, "Accuracy and onsets")
    cells = [(cell.text, cell.detail) for cell in table.rows[0].cells]
    assert len(table.rows) == 3 and cells[1:3] == [("41", ""), ("72.0%", "[63.0, 81.0]")]
    assert cells[7:] == [("−10.0", "[−16.0, −4.0]"), ("19", "")]


def test_onsets_along_the_text(studied, make_study):
    text = said(studied, "Onsets along the text")
    assert "Half of the baseline completions have turned back by generated token 120" in text
    assert "fall between 50.0% and 60.0% of their length (11 of 60)" in text
    assert "most common trigger is `Wait`, in 31.0%" in text and "more common in" not in text
    rows = study_tables.phrases()
    rise = next(row for row in rows if row["condition"] == "late_mlp@0" and row["phrase"] == "But")
    rise |= study_tables.around("difference", 0.2, 0.05)
    text = said(make_study(phrases=rows), "Onsets along the text")
    assert "`But` under `late_mlp@0` +20.0 percentage points (95% interval +15.0 to +25.0)" in text
    slow = said(make_study(survival=study_tables.survival({"baseline": 0.001})), "Onsets along the text")
    assert "Of the baseline completions 85.2% have not turned back by generated token 160" in slow


def test_scan(studied, make_study):
    text = said(studied, "Scan")
    assert "at 40 onsets of 40 planned, in 18 problems, each of 36 sites was changed" in text
    assert "Two sites qualify where the site is removed: `mlp.3` with a specific effect of +0.61 nats" in text
    assert "−24.0 percentage points of the mass of all triggers" in text
    assert "One site breaks the model: `attn.0`" in text and "1 under the noise floor" in text
    zero, mean = tables(studied, "Scan")
    assert [row.cells[0].text for row in zero.rows[:2]] == ["`mlp.3`", "`head.3.1`"]
    assert zero.rows[-1].cells[0].text == "`attn.0`" and zero.rows[-1].tone == "collapsed"
    assert len(mean.rows) == 13 and "23 further rows" in mean.caption
    broken = [row for row in study_tables.scan() if row["verdict"] != "qualifies"]
    assert said(make_study(scan=broken), "Scan").count("No site qualifies") == 2
    none = [{"stage": "scan", "planned": 4, "done": 0, "failed": 4, "problems": 0, "verdict": "incomplete"}]
    assert "planned 4 onsets and none is measured yet" in said(make_study(scan=none), "Scan")


def test_lens_and_attribution(studied, make_study):
    text = said(studied, "Lens")
    assert "at 38 onsets in 17 problems" in text and "after the last layer; the same token has −6.03" in text
    assert "From `attn.3` on its interval lies above those of its controls" in text
    rows = rows_of(tables(studied, "Lens")[0])
    assert rows["onsets"][-1] == ("`mlp.5`", "") and rows["sentence starts, no onset"][-1] == ("nowhere", "")
    alike = [row | study_tables.around("log_probability", -3, 1) for row in study_tables.lens()]
    assert "Nowhere does it stand apart" in said(make_study(lens=alike), "Lens")
    text = said(studied, "Attribution")
    assert "`mlp.3` +4.20 (95% interval +3.70 to +4.70), against +0.84 at the same position elsewhere" in text
    assert tables(studied, "Attribution")[0].rows[0].cells[0].text == "`mlp.3`"


def test_continuation(studied):
    text = said(studied, "Continuation")
    assert "at 39 onsets the intervention was on at the onset's own step alone" in text
    assert "Under `top@0` the onset's token goes from a probability of 41.0% to 4.1%" in text
    assert "from 46.0% to 4.6%, −41.4 percentage points (95% interval −45.4 to −37.4, Holm p < 0.001)" in text
    assert "`But` gains most under `top@0`: from 6.0% to 21.0%" in text
    assert "backtracks within them in 62.0% (95% interval 57.0 to 67.0)" in text
    assert "Under `top@0` it still backtracks in 14.0%, −48.0 percentage points" in text
    assert len(tables(studied, "Continuation")) == 3


def test_decisions_are_told_with_their_reason(studied):
    (table,) = tables(studied, "Decisions")
    assert [row.cells[0].text for row in table.rows] == ["`sites:targeted`", "`controls:targeted`", "`confirm:search`"]
    assert table.rows[0].cells[2].text == "the best 1 by specific effect"


def test_foreign_words_are_escaped(make_study):
    attack = "<script>alert(1)</script>`<b>"
    rows = [row | {"phrase": attack} for row in study_tables.phrases()]
    sites = [row | {"site": attack, "verdict": attack} for row in study_tables.scan(heads=0)]
    results = make_study(phrases=rows, words=[row | {"word": attack} for row in study_tables.words()], scan=sites)
    html = html_page(compose(results, {})).decode()
    assert not Page(html).stack
    assert "<script" not in html and "<b>" not in html and "drawn once &lt;b&gt;" in html


def test_the_glossary_knows_the_words_of_what_is_there(studied, results):
    def terms(of):
        return [term for term, _ in sections(of)["How to read this"][0].entries]

    assert {"Control", "Specific effect (nats)", "Search, rung, confirmation"} <= set(terms(studied))
    assert "Control" not in terms(results) and len(terms(results)) == 10
