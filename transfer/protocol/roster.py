"""The roster of a round: the signing keys of all clients that are asked, which each of them gets to see."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from transfer.errors import PolicyRefusedError, UsageError

KEY_BYTES = 32
"""An Ed25519 public key."""


@dataclass(frozen=True, slots=True)
class Roster:
    """Who is asked in a round, by key alone: clients do not learn each other's names.

    Attributes:
        keys: 32 bytes each, ascending, none twice: one key is one vote.

    Raises:
        UsageError: they are not.
    """

    keys: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if any(len(key) != KEY_BYTES for key in self.keys):
            raise UsageError(f"a key of the roster is not {KEY_BYTES} bytes long")
        if any(left >= right for left, right in zip(self.keys, self.keys[1:], strict=False)):
            raise UsageError("the roster's keys are not in ascending order, each once")

    @staticmethod
    def of(keys: Iterable[bytes]) -> "Roster":
        """The roster of these keys, in any order."""
        return Roster(tuple(sorted(keys)))

    @property
    def digest(self) -> str:
        """SHA-256, hex: equal for two clients if they were shown the same roster."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def require(self, key: bytes, cohort: int) -> None:
        """Return if `key` is one of at least `cohort` keys.

        Raises:
            PolicyRefusedError: it is not, or they are fewer.
        """
        if key not in self.keys:
            raise PolicyRefusedError("the roster of the round does not hold our key")
        if len(self.keys) < cohort:
            raise PolicyRefusedError(
                f"the roster of the round holds {len(self.keys)} keys, fewer than the cohort of {cohort} promised"
            )

    def to_bytes(self) -> bytes:
        """The keys, one after the other."""
        return b"".join(self.keys)

    @staticmethod
    def from_bytes(data: bytes) -> "Roster":
        """Read what `to_bytes` wrote.

        Raises:
            UsageError: anything else.
        """
        return Roster(tuple(data[at : at + KEY_BYTES] for at in range(0, len(data), KEY_BYTES)))
