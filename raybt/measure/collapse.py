"""Whether a condition broke the model: an effect on a broken model is not an effect on backtracking."""

from math import nan

import pandas as pd

from raybt.measure.statistics import clustered_rate

ANSWERABLE_SHARE = 0.5  # of the baseline's answerable rate
REPETITIVE_QUANTILE = 0.99  # of the baseline's repetition
REPETITIVE_LIMIT = 0.25  # of the condition's rows


class Collapse:
    """The three criteria of collapse, measured against one baseline.

    1. Accuracy at chance: the clustered interval of `accuracy_all` reaches down to what permuted gold gives, to the
       condition's answers or to the baseline's: the answers of a broken model can be so odd that no gold is like them.
       Only where the baseline itself is above chance: otherwise this cannot tell a broken model from a task that is
       too hard, which `collapsed_because` then says in every row, whether or not another criterion holds.
    2. Few answers: an answerable rate under half of the baseline's.
    3. Repetition above the baseline's 99th percentile in more than a quarter of the rows.

    A condition with nothing done is not called collapsed; its finding is `incomplete`.
    """

    def __init__(self, baseline: pd.DataFrame):
        """`baseline`: the done rows of the baseline condition."""
        self.repetitive = float(baseline["repetition"].astype(float).quantile(REPETITIVE_QUANTILE))
        self.answerable = float(baseline["verdict"].isin(["correct", "wrong"]).mean())
        accuracy, low, _ = clustered_rate((baseline["verdict"] == "correct").to_numpy(), baseline["problem"].to_numpy())
        self.chance = float(baseline["chance"].mean())
        self.above_chance = low > self.chance  # False for an empty baseline, whose values are nan
        self.baseline = f"{_percent(accuracy)}, interval from {_percent(low)}, chance {_percent(self.chance)}"

    def of(self, done: pd.DataFrame, line: dict, is_baseline: bool) -> dict:
        """Columns `repetitive_rate`, `collapsed` and `collapsed_because` (may be empty) of a condition.

        Args:
            done: its done rows. line: its rates so far, as in `CONDITION_TABLE`.
        """
        repetitive = float((done["repetition"] > self.repetitive).mean()) if len(done) else nan
        reasons = [] if is_baseline else [*self._accuracy(line), *self._answers(line), *self._repetition(repetitive)]
        return {
            "repetitive_rate": repetitive,
            "collapsed": bool(reasons),
            "collapsed_because": "; ".join([*reasons, *self._remarks()]),
        }

    def _accuracy(self, line: dict) -> list[str]:
        low, chance = line["accuracy_all_low"], max(line["chance_accuracy"], self.chance)
        if not (self.above_chance and low <= chance):
            return []
        interval = f"{_percent(low)} to {_percent(line['accuracy_all_high'])}"
        return [f"accuracy {_percent(line['accuracy_all'])} ({interval}) is not above chance, {_percent(chance)}"]

    def _answers(self, line: dict) -> list[str]:
        rate = line["answerable_rate"]
        if not rate < ANSWERABLE_SHARE * self.answerable:
            return []
        usual = _percent(self.answerable)
        return [f"{_percent(rate)} of completions give an answer, under half of the baseline's {usual}"]

    def _repetition(self, rate: float) -> list[str]:
        if not rate > REPETITIVE_LIMIT:
            return []
        limit = f"the baseline's 99th percentile, {self.repetitive:.2f}"
        return [f"{_percent(rate)} of completions are more repetitive than {limit}"]

    def _remarks(self) -> list[str]:
        if self.above_chance:
            return []
        return [f"baseline accuracy is not above chance ({self.baseline}), so accuracy was no criterion"]


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}%"
