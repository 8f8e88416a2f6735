"""The Markdown page says what the HTML page says, and escapes as well."""

import re

from raybt.report.document import compose
from raybt.report.pages import _fenced, _markdown_cell, _markdown_names, markdown_page


def markdown(results):
    return markdown_page(compose(results, {})).decode()


def test_links_to_its_figures(files):
    links = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", files["report.md"].decode())
    assert links == ["figures/bars_sweep.png", "figures/curve_sweep.png", "figures/tradeoff_sweep.png"]
    assert set(links) <= set(files)


def test_tables_are_whole(results):
    lines = markdown(results).split("\n")
    rows = [line for line in lines if line.startswith("| `")]
    for name in results.conditions["condition"]:
        assert any(line.startswith(f"| `{name}` ") for line in rows)
    header = next(i for i, line in enumerate(lines) if line.startswith("| Condition | Sites"))
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines[header : header + 11]}
    assert widths == {13}


def test_same_sections_as_the_html_page(files):
    titles = re.findall(r"^## (.*)$", files["report.md"].decode(), re.MULTILINE)
    assert titles == re.findall(r"<h2>(.*)</h2>", files["report.html"].decode())
    assert titles[:4] == ["Figures", "Conditions", "Contrasts with the baseline", "Side by side"]


def test_onsets_and_parting_token_are_marked(results):
    text = markdown(results)
    assert "6 * 7 = 4▶8.\n⟦Wait⟧, 6 * 7 = 42." in text
    assert "6 * 7 = 4▶2 pears." in text


def test_foreign_text_stays_text(make, make_sweep, make_example):
    attack = "```\n<script>alert(1)</script> | a\n# big\n[x](http://x)"
    example = make_example(
        "late_mlp@0", attack + "a", attack + "b", question=attack, gold=attack, treated_answer=attack
    )
    text = markdown(make(make_sweep(), examples=[example], manifest={"name": attack, "model": {"name": attack}}))
    outside = re.sub(r"^(`{4,})text\n.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    outside = re.sub(r"`[^`\n]*`", "", outside)  # code, block or inline, is inert
    assert "<script>" not in outside.replace(r"\<", "")
    assert "\n# big" not in outside and "[x](" not in outside


def test_escapes():
    assert _markdown_names("a_b `c_d` <e>") == r"a\_b `c_d` \<e\>"
    assert _markdown_names("1. x\n- y") == "1\\. x\n\\- y"
    assert _markdown_names("of `a` 50.6% and `b`+1") == "of `a` 50.6% and `b`+1"
    assert _markdown_cell("a|b `c|d`\ne") == r"a\|b `c\|d` e"
    assert _fenced("a ```` b").startswith("`````text\n")
