"""The HTML page: structure, numbers, escaping, and that it asks nobody for anything."""

import subprocess
import sys
from html.parser import HTMLParser

import pytest

from raybt.report.document import compose
from raybt.report.pages import html_page

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Tables as lists of rows of texts, tags with attributes, and text by id of the element around it."""

    def __init__(self, html):
        super().__init__()
        self.stack, self.tags, self.tables, self.texts = [], [], [], {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append((tag, dict(attrs).get("id")))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        opened, _ = self.stack.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data):
        if any(tag in ("td", "th") for tag, _ in self.stack):
            self.tables[-1][-1][-1] += data + " "
        for _, name in self.stack:
            if name:
                self.texts[name] = self.texts.get(name, "") + data

    def row(self, title, condition):
        """The row of `condition` in the first table whose header holds `title`."""
        table = next(rows for rows in self.tables if any(title in cell for cell in rows[0]))
        return next(row for row in table[1:] if row[0].split()[0] == condition)


def without_figures(results):
    return html_page(compose(results, {})).decode()


def page(results):
    return Page(without_figures(results))


@pytest.fixture(scope="module")
def html(files):
    return files["report.html"].decode()


@pytest.fixture(scope="module")
def shown(html):
    return Page(html)


def test_is_well_formed_and_accessible(shown):
    assert not shown.stack
    tags = [tag for tag, _ in shown.tags]
    assert dict(shown.tags)["html"] == {"lang": "en"}
    assert tags.count("h1") == 1 and tags.count("main") == 1
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in shown.tags if tag == "th")
    assert all(attrs["alt"] for tag, attrs in shown.tags if tag == "img")
    ids = [attrs["id"] for _, attrs in shown.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"].lstrip("#") for tag, attrs in shown.tags if tag == "a"]
    assert links and set(links) <= set(ids)


def test_loads_nothing_from_anywhere(html, shown):
    for tag, attrs in shown.tags:
        assert tag not in ("script", "link", "iframe", "object")
        assert attrs.get("src", "data:").startswith("data:")
        assert attrs.get("href", "#").startswith("#")
    assert "@import" not in html and "url(" not in html
    assert "default-src 'none'" in html


def test_every_condition_stands_with_its_numbers(results, shown):
    for row in results.conditions.to_dict("records"):
        cells = shown.row("Planned", row["condition"])
        counts = [f"{row[name]:,}" for name in ("n_sites", "planned", "done", "failed", "missing", "truncated")]
        assert [cell.strip() for cell in cells[1:7]] == counts
        if row["done"]:
            low, high = 100 * row["onset_rate_low"], 100 * row["onset_rate_high"]
            assert cells[8].split() == [f"{100 * row['onset_rate']:.1f}%", f"[{low:.1f},", f"{high:.1f}]"]


def test_contrasts_are_points_and_tokens(shown):
    tables = [table for table in shown.tables if "Holm p " in table[0]]
    onset, accuracy, tokens = (next(row for row in table if row[0].split() == ["late_mlp@0"]) for table in tables)
    assert onset[1:7] == ["43.2% ", "21.4% ", "−21.8 ", "[−30.8, −12.8] ", "0.002 ", "0.008 "]
    assert accuracy[3] == "−1.5 "
    assert tokens[1:4] == ["88.2 ", "88.2 ", "0.0 "]


def test_mixed_numerics_are_marked(make, make_sweep, shown):
    assert "mixed numerics" in shown.row("Holm p", "late_mlp@0")[-1]
    assert "numerics classes" in shown.texts["opening"]
    assert "mixed numerics" not in page(make(make_sweep())).texts["contrasts-with-the-baseline"]


def test_a_completion_cannot_inject(make, make_sweep, make_example):
    attack = "<script>alert(1)</script><img src=http://x onerror=alert(1)>`</code><b>` & \"'"
    example = make_example(
        "late_mlp@0", f"ab{attack} Wait", f"ac{attack}", question=attack, gold=attack, problem=attack,
        treated_answer=attack, treated_verdict=attack,
    )  # fmt: skip
    manifest = {"name": attack, "model": {"name": attack}, "notes": [attack], "attempts": [{"address": attack}]}
    html = without_figures(make(make_sweep(), examples=[example], manifest=manifest, config={"name": attack}))
    shown = Page(html)
    assert not shown.stack
    assert "<script" not in html and "<b>" not in html
    assert not any("onerror" in attrs for _, attrs in shown.tags)
    assert shown.texts["side-by-side"].count(attack) == 3  # two completions and the question, letter by letter


def test_marks_of_a_pair(shown):
    text = shown.texts["side-by-side"]
    marks = [attrs for tag, attrs in shown.tags if tag == "mark"]
    parts = [attrs for tag, attrs in shown.tags if attrs.get("class") == "part" and tag == "span"]
    assert marks == [{"class": "onset"}]
    assert "onsetWait, 6 * 7 = 42." in text  # the label stands in the text, for readers without colour
    assert len(parts) == 3  # the baseline's parting token runs into its onset
    assert text.count("▶") == 2 + 1  # one a side, one in the explanation
    assert "they part at generated token 31" in text


def test_long_common_beginning_is_cut_visibly(make, make_sweep, make_example):
    same = "so " * 500
    example = make_example("late_mlp@0", same + "yes", same + "no.")
    html = without_figures(make(make_sweep(), examples=[example]))
    assert html.count("1,000 characters, the same in both") == 2


@pytest.mark.parametrize("part", [-1, None])
def test_pairs_that_never_part(make, make_sweep, make_example, part):
    example = make_example("late_mlp@0", "", "", part_token=part)
    text = page(make(make_sweep(), examples=[example])).texts["side-by-side"]
    assert "they never part" in text and text.count("[nothing was written]") == 2


def test_several_variants_and_stages(make, make_sweep):
    shown = page(make([*make_sweep(), *make_sweep(variant="think"), *make_sweep(stage="second")]))
    conditions = shown.texts["conditions"]
    for place in ("Stage sweep, prompt variant default", "Stage sweep, prompt variant think", "Stage second"):
        assert place in conditions
    assert "Variant" in [cell.strip() for table in shown.tables for cell in table[0]]


def test_missing_records_are_said_to_be_missing(make, make_sweep):
    shown = page(make(make_sweep(), manifest={"attempts": [{}]}, config={}))
    assert shown.texts["provenance"].count("not recorded") >= 8


def test_provenance_names_what_the_run_was_made_with(shown):
    text = shown.texts["provenance"]
    for fact in ("0123456789ab", "with uncommitted changes", "torch 2.13.0, ray 2.60.0", "sha256:5ad1c0ffee", "874.5"):
        assert fact in text
    for fact in ("problems.limit: 20 -> 24", "completions/000003.parquet", "torn: no footer", "Some CPU, 2 cores"):
        assert fact in text
    assert "- mlp.5-7" in shown.texts["config"]


def test_importing_loads_neither_torch_nor_ray_nor_pyplot():
    check = "import sys, raybt.report; print([m for m in ('torch', 'ray', 'matplotlib.pyplot') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
