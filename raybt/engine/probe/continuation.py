"""What follows an onset's prefix: fresh continuations, with and without an intervention at that one step."""

from collections.abc import Sequence

from raybt.engine.anatomy import Anatomy
from raybt.engine.bank import Bank
from raybt.engine.decode import Decoder
from raybt.engine.request import Completion, Request, Sampling, Term

AT_THE_STEP = (0, 1)  # of the window of `onset`: the step that reads the last token of the prefix, and no other


def continuations(
    anatomy: Anatomy,
    tokens: Sequence[int],
    event: int,
    interventions: Sequence[tuple[Term, ...]],
    streams: Sequence[int],
    max_new_tokens: int,
    sampling: Sampling,
    window: tuple[int, int] = AT_THE_STEP,
    slots: int = 64,
    bank: Bank | None = None,
) -> list[list[Completion]]:
    """Write on from the tokens before `event`, again and again.

    Draw j of every intervention shares its noise, so that what parts two of them is the intervention.

    Args:
        tokens: prompt and completion.
        event: position of the onset token, at least 1; the prefix ends before it.
        interventions: `()` for none; each is on at the steps of `window` only.
        streams: one random stream for each continuation.
        max_new_tokens: length of a continuation.

    Returns:
        [interventions][streams] completions.

    Raises:
        ValueError: the event lies outside the text.
    """
    if not 1 <= event <= len(tokens):
        raise ValueError(f"the event must be a position 1 to {len(tokens)} of the text; got {event}")
    prefix = tuple(tokens[:event])
    requests = [
        Request(f"{i}/{j}", prefix, max_new_tokens, stream, terms, "onset", window=window)
        for i, terms in enumerate(interventions)
        for j, stream in enumerate(streams)
    ]
    decoder = Decoder(anatomy, sampling, slots, event + max_new_tokens, bank)
    try:
        done = {completion.key: completion for completion in decoder.run(requests)}
    finally:
        decoder.close()
    return [[done[f"{i}/{j}"] for j in range(len(streams))] for i in range(len(interventions))]
