"""Why something stopped: the innermost exception, what it says, and the line that raised it, as plain data."""

import re
import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ray.exceptions import RayActorError, RayError, RayTaskError

from raybt.errors import UserError

LONGEST_TRACE = 2000
LONGEST_MESSAGE = 400  # on a terminal; the manifest has it whole, up to the length of a trace

_FRAME = re.compile(r'File "([^"]+)", line ([0-9]+)')
_RAISED = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception|Interrupt|Exit)): (.+)$", re.MULTILINE)
_PYTHONS_OWN = re.compile(r"<|.*/python3[.0-9]*/(?!site-packages|dist-packages)")
_BECAUSE = "The above exception was the direct cause of the following exception:"
_PACKAGE = re.compile(r".*/(?:(?:site|dist)-packages|huggingface/modules)/|.*/(?=raybt/)")


@dataclass(frozen=True)
class Cause:
    """Why a replica or a wave stopped.

    Args:
        what: who could not do what.
        type, message, where: of the innermost exception, and the line of raybt or of a library that raised it.
        rows: the rows that it concerns, by their keys or as their users know them.
        trace: the end of the traceback.
    """

    what: str
    type: str
    message: str
    where: str = ""
    rows: tuple[str, ...] = ()
    trace: str = ""

    @property
    def line(self) -> str:
        """One line for a terminal."""
        return self.brief + (f"; in its slots: {'; '.join(self.rows)}" if self.rows else "")

    @property
    def brief(self) -> str:
        """The same without the rows."""
        message = self.message if len(self.message) <= LONGEST_MESSAGE else self.message[: LONGEST_MESSAGE - 3] + "..."
        said = ": ".join(part for part in (self.what, self.type, message) if part)
        return f"{said} ({self.where})" if self.where else said

    @property
    def entry(self) -> dict[str, Any]:
        """For the manifest, whose notes have the trace."""
        return {name: value for name, value in asdict(self).items() if name != "trace"}

    def same(self, other: "Cause") -> bool:
        """Whether both were raised at the same place, with the same words."""
        return (self.type, self.message, self.where) == (other.type, other.message, other.where)


def cause_of(error: BaseException, what: str, rows: Iterable[str] = ()) -> Cause:
    """The innermost cause of an error, which may have come from another process through Ray."""
    root, text = _innermost(error)
    if isinstance(root, RayActorError):
        kind, message = type(root).__name__, _lost(str(root))
    elif raised := _RAISED.findall(str(root) if isinstance(root, RayError) else _first_of(error, root, text)):
        kind, message = raised[-1]  # Ray kept the text of what was raised, and not the exception
    else:
        kind, message = type(root).__name__, str(root)
    message = " ".join(message.split())[:LONGEST_TRACE]
    return Cause(what, kind, message, _where(text), tuple(rows), text[-LONGEST_TRACE:])


def _first_of(error: BaseException, root: BaseException, text: str) -> str:
    """Of an error that came from another process: the text of what brought it about, which is lost on the way."""
    came = isinstance(error, RayTaskError) and not isinstance(root, UserError)
    return text.partition(_BECAUSE)[0] if came and _BECAUSE in text else ""


def _innermost(error: BaseException) -> tuple[BaseException, str]:
    """The error at the bottom, and its traceback: its own, or Ray's text of it where it came from another process."""
    text = ""
    while True:
        below = error.cause if isinstance(error, RayTaskError) else error.__cause__
        text = str(error) if isinstance(error, RayTaskError) else text
        if isinstance(error, UserError) or not isinstance(below, BaseException):
            break  # a user's mistake is said as such, whatever brought it to light
        error = below
    own = error.__traceback__ is not None and not isinstance(error, RayError)
    return error, "".join(traceback.format_exception(error, chain=False)) if own or not text else text


def _where(trace: str) -> str:
    """`transformers/modeling_utils.py, line 12` of the innermost line that is not Python's own."""
    frames = [frame for frame in _FRAME.findall(trace) if not _PYTHONS_OWN.match(frame[0])]
    return f"{_PACKAGE.sub('', frames[-1][0], count=1)}, line {frames[-1][1]}" if frames else ""


def _lost(text: str) -> str:
    """What Ray's account of an actor that is gone comes to, without its advice."""
    if "creation task" in text and (raised := _RAISED.findall(text)):
        return ": ".join(raised[-1])
    if "node has died" in text:
        address = re.search(r"^\s*ip: (\S+)", text, re.MULTILINE)
        return f"the node {address[1]} died" if address else "its node died"
    if "low on memory" in text or "NODE_OUT_OF_MEMORY" in text:
        return "its node ran low on memory, and Ray ended it"
    if "unexpectedly exits" in text:
        return "its process was killed or crashed without a word; the system may have run out of memory"
    return text.strip().splitlines()[-1] if text.strip() else ""
