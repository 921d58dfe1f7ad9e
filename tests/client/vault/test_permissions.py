"""A secret file that anybody else may open is refused with the cure."""

from pathlib import Path

import pytest

from client.vault.permissions import require_private
from transfer.errors import UsageError


@pytest.mark.parametrize("mode", [0o100600, 0o100400, 0o100700])
def test_a_file_of_its_owner_alone_is_taken(mode: int) -> None:
    require_private(Path("key.pem"), mode)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o601, 0o602])
def test_whatever_others_may_do_is_too_much(mode: int) -> None:
    with pytest.raises(UsageError, match=rf"open to others \(mode {mode:04o}\): chmod 600 key.pem"):
        require_private(Path("key.pem"), 0o100000 | mode)
