"""What an intervention should have touched, worked out on the host, against what its hooks counted."""

from collections.abc import Sequence

from raybt.engine.request import Request

Triggers = Sequence[tuple[int, ...]]


def demanded_positions(request: Request, tokens: Sequence[int], triggers: Triggers = ()) -> int:
    """Input positions at which each active site must have changed its output, once `tokens` are written."""
    first, last = request.steps_on
    if request.positions == "after_trigger":
        return sum(_on_after_trigger(tokens[:step], first, last, triggers) for step in range(len(tokens)))
    prefilled = len(request.prompt) - 1 if request.touches_prompt else 0
    return prefilled + max(0, min(last, len(tokens)) - max(first, 0))


def _on_after_trigger(before: Sequence[int], first: int, last: int, triggers: Triggers) -> bool:
    """Whether the step that reads the last of `before` is on: its distance from the latest match decides."""
    ends = [end for end in range(1, len(before) + 1) if any(_ends_with(before[:end], one) for one in triggers)]
    return bool(ends) and first <= len(before) - ends[-1] < last


def _ends_with(tokens: Sequence[int], trigger: tuple[int, ...]) -> bool:
    return len(tokens) >= len(trigger) and tuple(tokens[len(tokens) - len(trigger) :]) == trigger


def receipt_error(
    request: Request, receipt: dict[str, int], tokens: Sequence[int], triggers: Triggers = ()
) -> str | None:
    """What the hooks really did against what the row's positions demand; None where they agree."""
    steps = demanded_positions(request, tokens, triggers) if request.active else 0
    demanded = {term.site: steps for term in request.active} if steps else {}
    if receipt == demanded:
        return None
    sites = sorted({*receipt, *demanded}, key=lambda site: (receipt.get(site, 0) == demanded.get(site, 0), site))
    site = sites[0]
    return (
        f"hook {site} changed its output at {receipt.get(site, 0)} positions where {demanded.get(site, 0)} were due; "
        "the row is void"
    )
