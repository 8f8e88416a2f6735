"""Rows that a decoder can't run, and why."""

from raybt.engine.hooks import Hooks
from raybt.engine.request import Request


def refusal(request: Request, hooks: Hooks, capacity: int, reach: int | None) -> str | None:
    """Why a row can't run; None where it can.

    Args:
        capacity: positions that a slot holds.
        reach: as `features.reach` has it.
    """
    needed = len(request.prompt) + request.max_new_tokens
    sites = [term.site for term in request.active]
    unknown = [site for site in sites if site not in hooks.index]
    absent = [str(t.vector) for t in request.active if t.vector is not None and t.vector not in hooks.bank]
    if not request.prompt or request.max_new_tokens < 1:
        return "a row needs at least one prompt token and one new token"
    if needed > capacity:
        return f"prompt and new tokens need {needed} positions; the slots hold {capacity}"
    if reach is not None and needed > reach:
        return f"prompt and new tokens need {needed} positions; beyond {reach} this model's rows disturb others"
    if len(set(sites)) < len(sites):
        return "a site may carry one operation in a row"
    if unknown:
        return f"the model has no site {', '.join(unknown)}"
    return f"the bank has no vector {', '.join(absent)}" if absent else None
