"""What an intervention at one step does to the next token at onsets, and where the mass goes."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from raybt.measure.statistics import holm
from raybt.measure.study.clustered import as_table, clustered_means, joined, with_planned
from raybt.measure.study.scan import effects_of
from raybt.store.schemas.study import STEP_TABLE, WORD_TABLE

GROUP = ["stage", "condition"]
TRIGGER_SET, ELSEWHERE = "(trigger set)", "(everything else)"
UNTOUCHED = "[]"  # the canonical form of no intervention


def steps_table(plan: pd.DataFrame, scans: pa.Table) -> pa.Table:
    """Probability of the target and of the trigger set under each condition, on at that step only.

    A row is done where its own intervention is among the effects measured at its key. p is of the trigger set's mass,
    corrected (Holm) over the conditions of a stage; there is none where nothing is intervened on.

    Args:
        plan: `MEASUREMENTS` rows of kind step, one an event and condition. scans: `SCANS`.

    Returns:
        `STEP_TABLE`, conditions as they first appear. `target_change` is in nats, `trigger_change` in probability;
        `floor` is the largest difference of trigger mass that rounding made.
    """
    effects, by = effects_of(plan, scans), [*GROUP, "intervention"]
    effects = effects.loc[_is_own(effects)]
    before, change = effects["target_log_probability"], effects["target_change"]
    effects = effects.assign(
        target_probability_baseline=np.exp(before),
        target_probability=np.exp(before + change),
        trigger_change=effects["trigger_mass"] - effects["trigger_mass_baseline"],
    )
    sides = [f"{name}{side}" for name in ("target_probability", "trigger_mass") for side in ("", "_baseline")]
    means = clustered_means(effects, by, [*sides, "target_change", "trigger_change", "kl"])
    means = means.rename(columns={"trigger_change_p": "p"})
    means = means.merge(effects.groupby(by, as_index=False).agg(floor=("floor_mass", "max")), on=by)
    lines = with_planned(plan, by, means)
    lines["p"] = lines["p"].mask(lines["intervention"] == UNTOUCHED)
    lines["p_holm"] = lines.groupby("stage")["p"].transform(holm)
    return as_table(lines, STEP_TABLE)


def words_table(plan: pd.DataFrame, scans: pa.Table, words: list[str]) -> pa.Table:
    """Mass of each watched word as next token, then of the trigger set and of everything else.

    Assumes that no two words share their first token, with each other or with the triggers: what is shared would be
    taken from everything else twice.

    Args:
        plan, scans: as for `steps_table`, which counts what is not done. words: as the columns `words` hold them.

    Returns:
        `WORD_TABLE`, one row a condition and word.
    """
    effects, results, names = effects_of(plan, scans), joined(plan, scans)[1], [*words, TRIGGER_SET, ELSEWHERE]
    own = _is_own(effects).to_numpy()
    events = effects["row"].to_numpy()[own]
    before, after = results["words"].combine_chunks(), pc.list_flatten(results["effects"].combine_chunks())  # pyright: ignore
    effects = effects.loc[own]
    masses_before = _masses(_matrix(before, len(words))[events], effects["trigger_mass_baseline"])
    masses_after = _masses(_matrix(after.field("words"), len(words))[own], effects["trigger_mass"])
    changes = {"mass_baseline": masses_before, "mass": masses_after, "change": masses_after - masses_before}
    long = effects.loc[effects.index.repeat(len(names)), [*GROUP, "problem"]]
    long = long.assign(word=names * len(effects), **{name: values.ravel() for name, values in changes.items()})
    return as_table(clustered_means(long, [*GROUP, "word"], list(changes)), WORD_TABLE)


def _is_own(effects: pd.DataFrame) -> pd.Series:
    """Whether an effect is that of its plan row's intervention, and not of another that was measured beside it.

    Where conditions mean the same, such as the baseline and scale 1, it was measured for each of them: one counts.
    """
    again = effects.duplicated(["row", "measured"])
    return (effects["measured"].astype(object) == effects["intervention"]) & ~again


def _matrix(lists: pa.Array, width: int) -> np.ndarray:
    """[rows, width]; assumes lists of that length."""
    return pc.list_flatten(lists).to_numpy(zero_copy_only=False).reshape(len(lists), width)  # pyright: ignore


def _masses(words: np.ndarray, triggers: pd.Series) -> np.ndarray:
    """Masses of the words, the trigger set and everything else, [rows, words + 2]; each row sums to 1."""
    named = np.column_stack([words, triggers.to_numpy(float)])
    return np.column_stack([named, 1 - named.sum(axis=1)])
