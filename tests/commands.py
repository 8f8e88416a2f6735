"""The command line as a user meets it: in this process, where it is fast, or in one of its own."""

import io
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from unittest.mock import patch

from packaging.version import Version

from raybt.cli import main

BROUGHT = {"torch"} if Version(version("transformers")) < Version("5.18") else set()
"""What transformers' tokenizers load by themselves, whoever imports them."""
ONE_LINE = re.compile(r"raybt: (?P<rule>.+?); got (?P<value>.+)\. Fix: (?P<fix>.+)\n")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def raybt(*words: object) -> Ended:
    """`raybt words...` in this process, through the same `main` as the installed command."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with patch.object(sys, "argv", ["raybt", *map(str, words)]), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return Ended(code, out.getvalue(), err.getvalue())


def raybt_alone(*words: object, then: str = "", **settings) -> Ended:
    """The same in a process of its own; `then` is Python to run after it."""
    program = f"import sys\nfrom raybt.cli import main\ntry:\n    main()\nfinally:\n    {then or 'pass'}"
    command = [sys.executable, "-c", program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **settings)
    return Ended(done.returncode, done.stdout, done.stderr)


def refusal(ended: Ended) -> re.Match[str]:
    """The parts of the one line that a bad input gets; fails if it got anything else."""
    assert ended.code == 2 and ended.out == "", ended
    match = ONE_LINE.fullmatch(ended.err)
    assert match, ended.err
    return match
