"""What a reader new to the field needs to read the report."""

from raybt.report.blocks import Block, Terms
from raybt.report.results import Results

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


_OF_STUDIES = (
    (
        "controls",
        "Control",
        "The same intervention on a random subset of sites, as many of each kind and from the same depths as the "
        "target's (matched random subset), or a random direction added at the target's sites, as long as what the "
        "intervention takes away there. What controls do is what any disturbance of that size does.",
    ),
    (
        "controls",
        "p against controls",
        "The share of a target and its controls whose effect is at least as large as the target's. With 20 controls it "
        "can't fall below 1/21; the least possible p is printed beside it.",
    ),
    (
        "variants",
        "Noise band",
        "Where a rate would lie in 95 of 100 runs if the wording of the prompt made no difference and completions "
        "differed by the luck of sampling alone.",
    ),
    (
        "scan",
        "Trigger set, trigger mass",
        "The first tokens of all backtracking phrases, and the probability that the model gives to all of them "
        "together as the next token.",
    ),
    (
        "scan",
        "Specific effect (nats)",
        "How far an intervention moves the next token's probabilities (their KL divergence, a distance in nats) is "
        "split into what the trigger mass moves and what all else moves. The specific effect is the first, counted "
        "where the triggers lose, less the second. Above zero the triggers are taken and little else.",
    ),
    (
        "scan",
        "Breaks the model",
        "At positions that have nothing to do with backtracking the intervention changes the likeliest next token more "
        "often than not. Such a site is needed for everything, and is never chosen.",
    ),
    (
        "scan",
        "Noise floor",
        "What the arithmetic alone makes of doing nothing twice. An effect below it is none.",
    ),
    (
        "lens",
        "Logit lens, attribution",
        "The lens sends the model's state after each layer straight to the output, to see what it would say there. "
        "Attribution splits the final logit of a token into what each component wrote.",
    ),
    (
        "steps",
        "One step, continuation",
        "An intervention that is on at the single step before an onset: first what it does to the next token, then how "
        "often the model, writing on from there with fresh random draws, still backtracks.",
    ),
    (
        "search",
        "Search, rung, confirmation",
        "A search tries many candidates on few problems and the better ones on more, rung by rung. Its winner is run "
        "once on the other half of the problems, which had no part in the choice; only that confirmation counts.",
    ),
    (
        "search",
        "Front",
        "The candidates that no other beats in both measures, fewer onsets and higher accuracy.",
    ),
    (
        "survival",
        "No onset yet",
        "The share of completions that have not turned back up to a token, with those that ended earlier taken out of "
        "the count where they ended (Kaplan and Meier).",
    ),
)
"""Table of the study that uses a word, the word, what it means."""


def glossary(results: Results) -> list[Block]:
    """The words of this report: those of stages that it does not have are left out."""
    there = {name for name, table in results.study.items() if not table.empty}
    return [Terms((*_ENTRIES, *((term, meaning) for table, term, meaning in _OF_STUDIES if table in there)))]
