"""What a reader new to the field needs to read the report."""

from raybt.report.blocks import Block, Terms

_ENTRIES = (
    (
        "Onset",
        "The first token of a phrase with which the model turns back on itself, such as “Wait”. The onset rate is "
        "the share of finished completions that hold at least one.",
    ),
    (
        "Site, condition, scale",
        "A site is the output of one attention or MLP layer, for example `mlp.19`. A condition multiplies the "
        "outputs of a subset of sites by a scale while the model writes: 0 removes them, 1 changes nothing. The "
        "baseline is the model as it is.",
    ),
    (
        "Collapsed",
        "A condition under which the model no longer works: it is no more accurate than answers handed out by "
        "chance, or gives far fewer answers, or repeats itself. A broken model also backtracks differently; that is "
        "not an effect on backtracking.",
    ),
    (
        "Clustered 95% interval",
        "A range that would hold the true rate in 95 of 100 such experiments. The samples of one problem resemble each "
        "other, so the interval counts problems, not completions, as independent.",
    ),
    (
        "Paired difference and p",
        "Every condition is compared with the baseline on the same problems and samples. p is how often a "
        "difference at least this large would turn up if the condition did nothing.",
    ),
    (
        "Holm p",
        "With many conditions some p are small by luck. Holm's method raises them so that the chance of even one "
        "false finding in the family stays below 5% when 0.05 is the limit.",
    ),
    (
        "Truncated",
        "The completion reached the token limit before it ended. Whatever it had said by then does not count as its "
        "answer.",
    ),
    ("Unparseable", "The completion ended without a number that could be read as its answer."),
    (
        "Common random numbers",
        "All conditions of a (problem, sample) draw the same random numbers at each step. Two completions therefore "
        "stay the same until the intervention itself makes them part, and the parting token is the first sign of it.",
    ),
    (
        "Numerics class",
        "Device, data type, attention code and library versions that made a row. Rows of different classes may differ "
        "by arithmetic alone.",
    ),
)


def glossary() -> list[Block]:
    return [Terms(_ENTRIES)]
