"""How onsets and their controls are called."""

ONSET = "onset"
_CALLED = {ONSET: "onsets", "position": "same position, no onset", "context": "sentence starts, no onset"}
_AT = {ONSET: "at onsets", "position": "at the same position elsewhere", "context": "at starts of sentences"}


def called(role: str) -> str:
    """As a label."""
    return _CALLED.get(role, role)


def at(role: str) -> str:
    """Inside a sentence."""
    return _AT.get(role, f"at {role}")
