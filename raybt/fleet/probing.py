"""Inside a replica: lenses and scans of the events of a text, as rows to commit."""

import json
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from raybt.plan.sites import parse_canonical

Text = tuple[int, tuple[int, ...]]  # tokens of the prompt, all tokens
Rows = list[dict[str, Any]]
SAME = 1e-4
"""Most that an intervention which is none may change a log-probability, beside ten times the noise floor."""


class Probe:
    """Measures at events of texts.

    Args:
        anatomy: the model; not to be used by anybody else meanwhile.
        made_with: columns that say who measured.
    """

    def __init__(self, anatomy: Any, bank: Any, texts: Sequence[Text], made_with: dict[str, str]):
        self.anatomy, self.bank, self.texts, self.made_with = anatomy, bank, texts, made_with

    def texts_of(self, rows: Rows) -> Iterator[tuple[str, Rows]]:
        """(kind, rows of one text that measure the same), so that a text is read once for all its events."""

        def together(row: dict) -> tuple:
            return row["kind"], row["prompt"], row["spec"]

        for (kind, *_), group in groupby(sorted(rows, key=together), key=together):
            yield kind, list(group)

    def measure(self, kind: str, rows: Rows) -> tuple[dict[str, str], Rows]:
        """(key -> error, rows to commit) of one text's events."""
        start = time.perf_counter()
        prompt_tokens, tokens = self.texts[rows[0]["prompt"]]
        events = [prompt_tokens + row["token"] for row in rows]
        measures = {"lens": self._lenses, "scan": self._scans}[kind](rows, tokens, events)
        seconds = (time.perf_counter() - start) / len(rows)
        bad, good = {}, []
        for row, (error, columns) in zip(rows, measures, strict=True):
            if error:
                bad[row["key"]] = error
            else:
                good.append({"key": row["key"], **columns, "seconds": seconds, **self.made_with})
        return bad, good

    def _lenses(self, rows: Rows, tokens: Sequence[int], events: list[int]) -> Iterator[tuple[str | None, dict]]:
        from raybt.engine.probe.lens import lens

        found = lens(self.anatomy, tokens, events, [row["target"] for row in rows])
        tables = (found.logit, found.log_probability, found.rank, found.attribution)
        for logit, log_probability, rank, attribution in zip(*(table.tolist() for table in tables), strict=True):
            yield (
                _finite(logit) or _finite(attribution),
                {
                    "places": found.places,
                    "logit": logit,
                    "log_probability": log_probability,
                    "rank": rank,
                    "components": found.components,
                    "attribution": attribution,
                },
            )

    def _scans(self, rows: Rows, tokens: Sequence[int], events: list[int]) -> Iterator[tuple[str | None, dict]]:
        from raybt.engine.probe.effects import effects
        from raybt.engine.request import Term

        spec = json.loads(rows[0]["spec"])
        named = spec["interventions"]
        terms = [tuple(Term(*term) for term in parse_canonical(text)) for text in named]
        targets = [row["target"] for row in rows]
        for found in effects(self.anatomy, tokens, events, targets, terms, spec["triggers"], spec["words"], self.bank):
            columns = (found.target_change, found.trigger_mass, found.kl, found.kl_trigger, found.agrees)
            measures = zip(named, *columns, found.word_mass, strict=True)
            yield (
                _finite([found.target, *found.target_change]) or _identity(found, named),
                {
                    "target_log_probability": found.target,
                    "trigger_mass": found.mass,
                    **dict(zip(("floor_target", "floor_mass", "floor_kl"), found.floor, strict=True)),
                    "words": found.words,
                    "effects": [dict(zip(EFFECT_FIELDS, one, strict=True)) for one in measures],
                },
            )


EFFECT_FIELDS = ("intervention", "target_change", "trigger_mass", "kl", "kl_trigger", "agrees", "words")


def _finite(values: Sequence[float]) -> str | None:
    return "the model gave NaN or infinite logits" if any(x != x or x == float("inf") for x in values) else None


def _identity(found: Any, named: list[str]) -> str | None:
    """An intervention that is none must change nothing: its row stands beside the untouched ones in the same step."""
    for text, change in zip(named, found.target_change, strict=True):
        if text == "[]" and abs(change) > SAME + 10 * found.floor[0]:
            return f"an intervention that is none changed the target's log-probability by {change:.2g}; the row is void"
    return None
