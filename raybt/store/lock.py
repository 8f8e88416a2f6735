"""One driver at a time: two would decode the same rows twice."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raybt.errors import UserError
from raybt.store.folder import RunFolder, write_error


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Hold a run's folder, made if need be. The operating system lets go when the process ends, however it ends.

    An object store has no locks: there the user sees to it that one driver writes.

    Raises:
        UserError: another process holds it, or it cannot be written.
    """
    if not folder.is_local:
        yield
        return
    try:
        Path(folder.path("")).mkdir(parents=True, exist_ok=True)
        handle = Path(folder.path(".lock")).open("w")  # noqa: SIM115 (held for as long as the caller works)
    except OSError as error:
        raise write_error(error, folder.root) from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            rule = "one raybt at a time may write to a run"
            raise UserError(rule, f"{folder.root} is in use", "wait for the other run, or stop it") from None
        yield
