"""Streams and row keys: what makes two rows the same row.

A key is a hash of everything that decides a row's tokens: kind of measurement, NUMERICS, model fingerprint, sampling
settings, prompt token ids, canonical intervention, positions, stream. Equal keys mean equal tokens.

Not in a key, because they do not decide tokens (or only through rounding, which the `numerics` column records):
run name, stage, condition and subset names, prompt variant name and prompt text (their tokens are in), problem id and
sample number (they are in the stream), gold answer, triggers, batch size, slots, replicas, host, device, dtype,
attention implementation, library versions, paths, and raybt's own version.
"""

import json
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from raybt.config import Sampling
from raybt.plan.sites import EMPTY

NUMERICS = 2
"""Raised only when a new raybt writes other tokens for the same row: it voids every key of every run.

2: tokens are drawn by an exponential race on Philox4x64-10 (1: Gumbel noise from Philox4x32-10).
"""

KEY_BYTES = 16


class Treatment(NamedTuple):
    """What is done to the model while it writes: a canonical intervention and the positions at which it is on."""

    intervention: str
    positions: str


def treatment(intervention: str, positions: str) -> Treatment:
    """Without an intervention positions mean nothing, so all of these are one treatment."""
    return Treatment(intervention, "decode" if intervention == EMPTY else positions)


def stream(seed: int, problem: str, sample: int, purpose: str = "decode", draw: int = 0) -> int:
    """The row's name in random number space, an unsigned 64-bit integer.

    Neither condition nor variant is in it: all conditions of a (problem, sample) share their noise.
    """
    hasher = blake2b(digest_size=8, person=b"raybt stream")
    for part in (seed, problem, sample, purpose, draw):
        hasher.update(_framed(str(part).encode()))
    return int.from_bytes(hasher.digest(), "little")


def sampling_fields(sampling: Sampling) -> tuple[str, ...]:
    """The settings that decide tokens; under greedy decoding only the length limit does."""
    always = ("greedy", "max_new_tokens")
    return always if sampling.greedy else (*always, "temperature", "top_k", "top_p")


def sampling_settings(sampling: Sampling) -> str:
    """The settings that decide tokens, as canonical JSON."""
    return json.dumps({name: getattr(sampling, name) for name in sampling_fields(sampling)}, separators=(",", ":"))


def stream_bytes(sampling: Sampling, number: int) -> bytes:
    """How a stream enters a key: greedy decoding draws nothing, so its rows have none."""
    return b"" if sampling.greedy else number.to_bytes(8, "little")


def frame_treatment(treated: Treatment) -> bytes:
    """How a treatment enters a key: the baseline has no positions."""
    positions = "" if treated.intervention == EMPTY else treated.positions
    return _framed(treated.intervention.encode()) + _framed(positions.encode())


class Keyer:
    """Hashes rows of one model and one set of sampling settings, sharing the work on common prefixes."""

    def __init__(self, fingerprint: str, sampling: Sampling, kind: str = "completion"):
        self._base = blake2b(digest_size=KEY_BYTES, person=b"raybt row key")
        for part in (kind, str(NUMERICS), fingerprint, sampling_settings(sampling)):
            self._base.update(_framed(part.encode()))

    def digests(self, token_ids: Iterable[int], treatments: Iterable[bytes], streams: list[bytes]) -> Iterator[bytes]:
        """Digests of one prompt's rows: for each treatment, one for each stream.

        Args:
            treatments: from `frame_treatment`.
            streams: from `stream_bytes`.
        """
        prompt = self._base.copy()
        prompt.update(_framed(np.asarray(token_ids, dtype="<i4").tobytes()))
        for treated in treatments:
            cell = prompt.copy()
            cell.update(treated)
            for number in streams:
                row = cell.copy()
                row.update(number)  # last and of fixed length, so it needs no frame
                yield row.digest()


def row_key(fingerprint: str, token_ids: Iterable[int], treated: Treatment, sampling: Sampling, number: int) -> str:
    """The key of one row, in hexadecimal: the plain way to what `Keyer` does for many."""
    digest = next(
        Keyer(fingerprint, sampling).digests(token_ids, [frame_treatment(treated)], [stream_bytes(sampling, number)])
    )
    return digest.hex()


def measurement_key(kind: str, fingerprint: str, token_ids: Iterable[int], target: int, spec: str) -> str:
    """The key of a lens or a scan at the end of `token_ids`, in hexadecimal.

    Args:
        spec: what is measured, as canonical JSON.
    """
    hasher = blake2b(digest_size=KEY_BYTES, person=b"raybt row key")
    read = np.asarray(token_ids, dtype="<i4").tobytes()
    for part in (
        kind.encode(),
        str(NUMERICS).encode(),
        fingerprint.encode(),
        read,
        str(target).encode(),
        spec.encode(),
    ):
        hasher.update(_framed(part))
    return hasher.hexdigest()


def _framed(data: bytes) -> bytes:
    """Length first, so that no two sequences of parts run together into the same bytes."""
    return len(data).to_bytes(8, "little") + data
