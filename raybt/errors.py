"""Errors that are the user's to mend, and the exit codes of the command line."""

COMPLETE = 0
FAILURE = 1
BAD_INPUT = 2
FAILED_ROWS = 3
STOPPED = 130  # Ctrl-C


def first_line(error: BaseException, most: int | None = None) -> str:
    """The first line of what an error says, or its type if it says nothing; at most so many characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:most]


class Failure(Exception):
    """Something broke that no input of the user's explains: one line that names the innermost cause, exit code 1."""

    exit_code = FAILURE


class UserError(Exception):
    """A mistake in what raybt was given: one line, no traceback, exit code 2.

    Args:
        rule: what raybt needs.
        value: what it got.
        fix: what to do about it.
    """

    exit_code = BAD_INPUT

    def __init__(self, rule: str, value: object, fix: str):
        self.rule, self.value, self.fix = rule, value, fix
        super().__init__(f"{rule}; got {value}. Fix: {fix}")

    def __reduce__(self):  # travels whole through a process boundary
        return type(self), (self.rule, self.value, self.fix)
