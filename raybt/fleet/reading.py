"""What a replica reads from the run folder, and how plan rows become requests to the engine."""

from typing import Any

from raybt.fleet.job import BANK, TEXTS_FILE, Job, parse_positions
from raybt.fleet.loading import check_widths
from raybt.plan.sites import parse_canonical
from raybt.store.folder import RunFolder
from raybt.store.schemas import PROMPTS
from raybt.store.schemas.study import TEXTS


class Reading:
    """Prompts and texts of one wave.

    Attributes:
        texts: (tokens of its prompt, all its tokens) of each text that measurements read.
    """

    def __init__(self, folder: RunFolder):
        table = folder.read_table("prompts.parquet", PROMPTS, ["token_ids"])
        self.prompts = [tuple(ids) for ids in table["token_ids"].to_pylist()]
        there = folder.read_table(TEXTS_FILE, TEXTS) if folder.exists(TEXTS_FILE) else TEXTS.empty_table()
        rows = there.select(["prompt_tokens", "token_ids"]).to_pylist()
        self.texts = [(row["prompt_tokens"], tuple(row["token_ids"])) for row in rows]

    def request(self, row: dict) -> Any:
        from raybt.engine.request import Request, Term

        terms = tuple(Term(*term) for term in parse_canonical(row["intervention"]))
        positions, window, _ = parse_positions(row["positions"])
        prompt = self._read(row)
        return Request(row["key"], prompt, row["max_new_tokens"], row["stream"], terms, positions, window=window)

    def _read(self, row: dict) -> tuple[int, ...]:
        """The tokens that a row continues: a prompt, or a text up to the row's token."""
        if row["kind"] == "completion":
            return self.prompts[row["prompt"]]
        prompt_tokens, tokens = self.texts[row["prompt"]]
        return tokens[: prompt_tokens + row["token"]]


def read_bank(folder: RunFolder, anatomy: Any, job: Job) -> Any:
    """The vectors that rows name, on the model's device.

    Raises:
        UserError: one is not as wide as the site that it is used at.
    """
    import torch
    from safetensors.numpy import load

    from raybt.engine.bank import Bank

    kept = load(folder.read(BANK)) if folder.exists(BANK) else {}
    check_widths(anatomy, job.sites_of, {name: vector.shape[-1] for name, vector in kept.items()})
    return Bank({name: torch.from_numpy(vector) for name, vector in kept.items()}, anatomy.device)
