"""One driver at a time."""

import pytest

from raybt.errors import UserError
from raybt.store.folder import RunFolder
from raybt.store.lock import locked


def test_a_second_driver_is_refused_until_the_first_is_done(tmp_path):
    folder = RunFolder(str(tmp_path))
    with locked(folder), pytest.raises(UserError, match="in use"), locked(folder):
        pass
    with locked(folder):
        assert folder.list() == []
