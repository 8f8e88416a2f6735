"""The title and the paragraphs a reader may stop after, written from the tables."""

from typing import Any

from raybt.report.blocks import Block, Paragraph, Warning
from raybt.report.claims import collapsed, incomplete, qualifying, some
from raybt.report.listed import listed
from raybt.report.results import Results, TableRow, is_baseline, is_mixed, named, rows_of, several_stages, variants_of
from raybt.report.searched import search_stages
from raybt.report.sections.controls import ran
from raybt.report.sections.search import headlines
from raybt.report.wording import code, is_missing, percent, percent_with_bounds, plain, plural, text
from raybt.report.wording import listed as listed_words

MUCH_TRUNCATED = 0.10  # above this share, an onset rate is partly a matter of the token limit


def title(results: Results) -> str:
    model = (
        _model(results.manifest).rstrip("/").rsplit("/", 1)[-1]
    )  # without its owner or folder; the text names it whole
    return f"{plain(model)}: which sites does backtracking depend on?"


def subtitle(results: Results) -> str:
    attempts = results.manifest.get("attempts") or [{}]
    ended = attempts[-1].get("ended")
    when = f"ended {plain(ended)}" if ended else "not ended"
    return f"Run {plain(results.manifest.get('name', 'without a name'))} · {when} · written by raybt"


def opening(results: Results) -> list[Block]:
    """Warnings, then what a search confirmed, what was run, the baseline, what qualifies and what collapsed."""
    if results.conditions.empty:
        return [Warning("The conditions table is empty: nothing has been run or aggregated yet.")]
    conditions = listed(results)
    texts = [
        *headlines(results),
        _what_was_run(conditions, results),
        _baselines(conditions),
        *qualifying(conditions),
        collapsed(conditions),
        incomplete(conditions),
    ]
    return [*warnings(results), *[Paragraph(text) for text in texts if text]]


def warnings(results: Results) -> list[Block]:
    conditions = listed(results)
    rows, variants = rows_of(conditions.conditions), variants_of(results.conditions)
    found = [
        _gaps(rows_of(results.conditions)),
        _at_chance(rows, variants),
        _truncated(rows, variants),
        _mixed(rows_of(conditions.contrasts)),
    ]
    return [Warning(text) for text in found if text]


def _gaps(rows: list[TableRow]) -> str:
    missing, failed = _total(rows, "missing"), _total(rows, "failed")
    if not missing and not failed:
        return ""
    return (
        f"Not all planned completions are there: {missing:,} missing and {failed:,} failed of "
        f"{_total(rows, 'planned'):,}. Every rate below rests on what is done; run the same command again to fill "
        "the gaps."
    )


def _at_chance(rows: list[TableRow], variants: list[str]) -> str:
    """A baseline is never collapsed, so a reason beside it is a remark on the criteria themselves."""
    remarks = {(row["variant"], text(row["collapsed_because"], "")) for row in rows if is_baseline(row)}
    said = [
        (f"with variant {code(variant)}, " if len(variants) > 1 else "") + plain(remark)
        for variant, remark in sorted(remarks)
        if remark
    ]
    return f"On what counts as collapsed: {'; '.join(said)}." if said else ""


def _truncated(rows: list[TableRow], variants: list[str]) -> str:
    cut = [row for row in rows if not is_missing(row["truncated_rate"]) and row["truncated_rate"] > MUCH_TRUNCATED]
    if not cut:
        return ""
    cut.sort(key=lambda row: -row["truncated_rate"])
    said = [f"{named(row, variants)} ({percent(row['truncated_rate'])})" for row in cut]
    shown = some(list(dict.fromkeys(said)))  # a condition that stands in several stages is said once
    return (
        f"Many completions reached the token limit before they ended: more than {percent(MUCH_TRUNCATED)} under "
        f"{shown}. They count as not correct in accuracy over all, and an onset beyond the limit is not seen."
    )


def _mixed(contrasts: list[TableRow]) -> str:
    if not any(is_mixed(row) for row in contrasts):
        return ""
    return (
        "Some contrasts compare rows from different numerics classes (device, data type or library versions); part "
        "of such a difference may be arithmetic. The contrasts tables mark them."
    )


def _what_was_run(conditions: Results, results: Results) -> str:
    """Conditions are told one by one; what else ran, controls and a search's candidates, is counted in one line."""
    what = f"{code(_model(results.manifest))} was given {_problems(conditions)}, {_conditions(conditions)}"
    return " ".join(filter(None, (f"{what}. {_counts(conditions)}", ran(results), _candidates(results))))


def _candidates(results: Results) -> str:
    stages = search_stages(results)
    rows = [row for row in rows_of(results.conditions) if row["stage"] in stages]
    if not rows:
        return ""
    totals = [f"{_total(rows, name):,} {said}" for name, said in (("done", "done"), ("failed", "failed"))]
    return f"The search planned {_total(rows, 'planned'):,} completions, {listed_words(totals)}."


def _problems(results: Results) -> str:
    variants = variants_of(results.conditions)
    counts = [row["problems"] for row in rows_of(results.conditions)]
    problems = max((n for n in counts if not is_missing(n)), default=0)
    samples = (results.config.get("sampling") or {}).get("samples")
    each = f" with {plural(samples, 'sample')} each" if samples else ""
    prompts = (
        f", under {len(variants)} prompt variants ({listed_words(map(code, variants))})" if len(variants) > 1 else ""
    )
    return f"{plural(int(problems), 'problem') if problems else 'its problems'}{each}{prompts}"


def _conditions(results: Results) -> str:
    n = len({row["condition"] for row in rows_of(results.conditions) if not is_baseline(row)})
    if not n:
        return "with nothing changed (the baseline)"
    return (
        f"once as it is (the baseline) and once under {'each of ' * (n > 1)}{plural(n, 'condition')}, where the output "
        "of chosen attention or MLP layers is changed while it writes"
    )


def _counts(results: Results) -> str:
    rows = rows_of(results.conditions)
    shared = " (a completion that several stages share counts in each)" if several_stages(results) else ""
    return (
        f"Of {_total(rows, 'planned'):,} planned completions{shared} {_total(rows, 'done'):,} are done, "
        f"{_total(rows, 'failed'):,} failed and {_total(rows, 'missing'):,} are missing; "
        f"{_total(rows, 'truncated'):,} were truncated at the token limit."
    )


def _baselines(results: Results) -> str:
    """One sentence a variant: of the stage with the most problems, since stages may have only half of them."""
    variants = variants_of(results.conditions)
    rows = sorted((row for row in rows_of(results.conditions) if is_baseline(row)), key=lambda row: -row["problems"])
    widest: dict[str, TableRow] = {}
    for row in rows:
        widest.setdefault(row["variant"], row)
    said = " ".join(_baseline(widest[variant], variants) for variant in variants if variant in widest)
    return said or "There is no baseline in the table, so no condition can be judged."


def _baseline(row: TableRow, variants: list[str]) -> str:
    under = f"Under the baseline with variant {code(row['variant'])}" if len(variants) > 1 else "Under the baseline"
    if is_missing(row["onset_rate"]):
        return f"{under} no completion is done yet, so no condition can be judged."
    return (
        f"{under} the model backtracks in {percent_with_bounds(row, 'onset_rate')} of its completions and is right "
        f"in {percent_with_bounds(row, 'accuracy_all')}."
    )


def _total(rows: list[TableRow], column: str) -> int:
    return int(sum(row[column] for row in rows if not is_missing(row[column])))


def _model(manifest: dict[str, Any]) -> str:
    return (manifest.get("model") or {}).get("name") or "The model"
