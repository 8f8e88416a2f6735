"""Every mistake in a config's stages that raybt answers for: exit code 2, one line with rule, value and fix, before the
first wave."""

from pathlib import Path

import pytest

from tests.commands import raybt, refusal
from tests.plan.models import model_folder, problem_file

CONFIG = """\
name: small
artifacts: {folder}/artifacts
model: {{name: {folder}/model}}
problems: {{name: {folder}/problems.jsonl, select: 0.5}}
prompt:
  template: "Solve: {{question}} <think>"
  variants: {{own: null, none: ""}}
sampling: {{samples: 2, max_new_tokens: 20}}
interventions:
  subsets:
    late: [mlp.4-5]
    found: {{from: scan, top: 2, kinds: [mlp]}}
    layers: {{each: [attn.*]}}
    best: {{cumulative: {{from: scan, top: 3}}}}
  grids:
    targeted: {{subsets: [found, late], controls: 2}}
    alone: {{subsets: [layers]}}
stages:
  lens: {{kind: lens, events: 4}}
  scan: {{kind: scan, sites: [mlp.*], operations: [zero]}}
  after: {{kind: continuation, subsets: [late], scales: [0, 1]}}
  search: {{kind: search, subsets: [late, best], scales: [0, 0.5]}}
"""


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    """A mistake must be found before Ray starts."""

    def refuse(*_):
        raise AssertionError("Ray was asked for")

    monkeypatch.setattr("raybt.fleet.cluster.connected", refuse)


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with a model of 6 layers, twelve problems, and c.yaml, a config for both."""
    model_folder(tmp_path / "model")
    problem_file(tmp_path / "problems.jsonl", 12)
    (tmp_path / "c.yaml").write_text(CONFIG.format(folder=tmp_path))
    return tmp_path


def edit(place: Path, old: str, new: str) -> None:
    text = (place / "c.yaml").read_text()
    assert text.count(old) == 1
    (place / "c.yaml").write_text(text.replace(old, new))


def refused(*words, rule: str, value: str, fix: str) -> None:
    parts = refusal(raybt(*words))
    for name, says in (("rule", rule), ("value", value), ("fix", fix)):
        assert says in parts[name], (name, parts[0])


def test_the_config_is_good_before_it_is_edited(place):
    ended = raybt("plan", place / "c.yaml")
    assert (ended.code, ended.err) == (0, "")
    assert "waits for the sites of found" in ended.out and "waits for the baseline's onsets" in ended.out


EDITS = {
    # kinds and keys
    "no such kind": ("kind: lens", "kind: lense", "is one of 'lens', 'scan'", "lense", "set stages.lens.kind"),
    "no kind": ("kind: lens, ", "", "stages.lens.kind is one of lens, scan", "events", "set stages.lens.kind"),
    "key in a stage": ("events: 4", "event: 4", "stages.lens knows only", "stages.lens.event", "did you mean events?"),
    "key of another kind": ("events: 4", "draws: 4", "stages.lens knows only", "stages.lens.draws", "remove it"),
    "key in a found subset": ("top: 2", "tpo: 2", "subsets.found.0 knows only the keys from", "tpo", "mean top?"),
    "key beside a family": ("{each:", "{top: 2, each:", "subsets.layers knows only the keys each", "top", "remove it"),
    # scans that subsets name
    "from no scan": ("from: scan, top: 2", "from: scna, top: 2", "which is no scan stage", "", "did you mean scan?"),
    "from a lens": ("from: scan, top: 2", "from: lens, top: 2", "from lens, which is no scan", "", "defined are: scan"),
    "family from no scan": ("{from: scan, top: 3}", "{from: sacn}", "best is from sacn", "", "did you mean scan?"),
    "operation not scanned": ("kinds: [mlp]", "operation: mean", "by mean, which scan scan does not do", "", "add"),
    "kind not scanned": ("kinds: [mlp]", "kinds: [attn]", "attn, which scan scan has no site of", "", "add sites"),
    "no kinds": ("kinds: [mlp]", "kinds: []", "kinds: tuple should have at least 1 item", "[]", "found.0.kinds"),
    "top of none": ("top: 2", "top: 0", "greater than or equal to 1", "0", "found.0.top"),
    "family of none": ("[attn.*]", "[]", "layers.each: tuple should have at least 1", "[]", "layers.each"),
    # sites
    "scan of no layer": ("sites: [mlp.*]", "sites: [mlp.*, attn.9]", "layers 0 to 5", "attn.9", "up to 5"),
    "scan of nothing": ("sites: [mlp.*]", "sites: []", "scan.sites: tuple should have at least 1 item", "[]", "sites"),
    "family of no layer": ("[attn.*]", "[attn.9]", "layers 0 to 5", "attn.9", "up to 5"),
    "no such operation": ("[zero]", "[zeor]", "should be 'zero' or 'mean'", "zeor", "scan.operations.0"),
    "operation twice": ("[zero]", "[zero, zero]", "operations lists a value twice", "zero", "remove one"),
    # names
    "subset of a continuation": ("[late], scales: [0, 1]", "[lat]", "stage after names subset lat", "", "mean late?"),
    "subset of a search": ("[late, best]", "[late, bets]", "stage search names subset bets", "", "did you mean best?"),
    "subset twice": ("[late, best]", "[late, late]", "subsets lists a value twice", "late", "remove one"),
    "continuation of none": ("subsets: [late], scales: [0, 1]", "draws: 2", "after.subsets must be given", "", "add"),
    "variant of a lens": ("events: 4", "variant: onw", "stage lens names variant onw", "", "did you mean own?"),
    "variant of a search": ("0.5]}", "0.5], variant: nnone}", "search names variant nnone", "", "did you mean none?"),
    "name of a grid": ("lens: {kind", "targeted: {kind", "stage targeted has the name of a grid", "", "rename one"),
    "name of the baseline": ("lens: {kind", "baseline: {kind", "is called baseline", "", "rename it"),
    "name of a rung": ("lens: {kind", "search.rung1: {kind", "begin with search. are raybt's", "", "rename it"),
    "name of a control": ("    best:", "    late.control01:", "begin with late. are raybt's", "", "rename it"),
    # numbers
    "no events": ("events: 4", "events: 0", "greater than or equal to 1", "0", "lens.events"),
    "draws below none": ("scales: [0, 1]", "draws: -1", "greater than or equal to 0", "-1", "after.draws"),
    "scale twice": ("[0, 1]", "[1, 1.0]", "scales lists a value twice", "1", "remove one"),
    "search of the baseline": ("[0, 0.5]}", "[0, 1]}", "scale 1 is the baseline", "1", "remove it"),
    "nothing to cut": ("[0, 0.5]}", "[0, 0.5], reduce: 0}", "greater than 0", "0", "search.reduce"),
    "everything to lose": ("[0, 0.5]}", "[0, 0.5], margin: 1}", "less than 1", "1", "search.margin"),
    "a rung that keeps all": ("[0, 0.5]}", "[0, 0.5], keep: 1}", "less than 1", "1", "search.keep"),
    "controls below none": ("controls: 2", "controls: -1", "greater than or equal to 0", "-1", "targeted.controls"),
    "directions of a push": (
        "controls: 2",
        "directions: 2, operation: mean, vectors: v",
        "`directions` belongs to operations scale and zero",
        "mean",
        "random",
    ),
    "no room to go on": ("[late], scales: [0, 1]", "[late], max_new_tokens: 480", "on top", "new = ", "together"),
    # halves
    "no such half": ("events: 4", "problems: selct", "'all', 'select' or 'confirm'", "selct", "lens.problems"),
    "half of a grid": ("controls: 2", "problems: selct", "'all', 'select' or 'confirm'", "selct", "targeted.problems"),
    "share of all": ("select: 0.5", "select: 1", "less than 1", "1", "problems.select"),
    "a half without problems": ("select: 0.5", "select: 0.001", "each need a problem", "none of 12", "nearer 0.5"),
    "one problem for two halves": ("select: 0.5", "limit: 1", "each need a problem", "none of 1 ", "more problems"),
}  # fmt: skip


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(("old", "new", "rule", "value", "fix"), EDITS.values(), ids=EDITS)
def test_a_mistake_in_a_stage(place, command, old, new, rule, value, fix):
    edit(place, old, new)
    refused(command, place / "c.yaml", rule=rule, value=value, fix=fix)
    assert not (place / "artifacts").exists()


PARTS = {
    "no such stage": (["--only", "scna"], "name a stage of the config", "scna", "baseline, alone, lens, scan"),
    "a search's rung": (["--from", "search.rung1"], "name a stage of the config", "search.rung1", "its stages are"),
    "both ways": (["--only", "scan", "--from", "lens"], "by --only or by --from", "both", "use one of them"),
}


@pytest.mark.parametrize(("words", "rule", "value", "fix"), PARTS.values(), ids=PARTS)
def test_a_part_of_a_run_that_is_none(place, words, rule, value, fix):
    refused("run", place / "c.yaml", *words, rule=rule, value=value, fix=fix)
    assert not (place / "artifacts").exists()
