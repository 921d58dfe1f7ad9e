"""The roster of a round: the signing keys of all clients that receive the request, shown to each of them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from transfer.errors import PolicyRefusedError, UsageError

KEY_BYTES = 32
"""An Ed25519 public key."""


@dataclass(frozen=True, slots=True)
class Roster:
    """The clients of a round, by key alone: clients do not learn each other's names.

    Attributes:
        keys: 32 bytes each, ascending and unique: one key is one vote.

    Raises:
        UsageError: a key has another length, or the keys are not ascending and unique.
    """

    keys: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if any(len(key) != KEY_BYTES for key in self.keys):
            raise UsageError(f"a key of the roster is not {KEY_BYTES} bytes long")
        if any(left >= right for left, right in zip(self.keys, self.keys[1:], strict=False)):
            raise UsageError("the roster's keys are not in ascending order, each once")

    @staticmethod
    def of(keys: Iterable[bytes]) -> "Roster":
        """Return the roster of these keys, given in any order."""
        return Roster(tuple(sorted(keys)))

    @property
    def digest(self) -> str:
        """SHA-256 in hex; equal for two clients if and only if they received the same roster."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def require(self, key: bytes, cohort: int) -> None:
        """Refuse a roster without `key`, or with fewer than `cohort` keys.

        Raises:
            PolicyRefusedError: `key` is missing, or there are too few keys.
        """
        if key not in self.keys:
            raise PolicyRefusedError("the roster of the round does not hold our key; ask the coordinator why")
        if len(self.keys) < cohort:
            raise PolicyRefusedError(
                f"the roster of the round holds {len(self.keys)} keys, fewer than the cohort of {cohort} promised"
            )

    def to_bytes(self) -> bytes:
        """Concatenate the keys."""
        return b"".join(self.keys)

    @staticmethod
    def from_bytes(data: bytes) -> "Roster":
        """Read what `to_bytes` wrote.

        Raises:
            UsageError: `data` is anything else.
        """
        return Roster(tuple(data[at : at + KEY_BYTES] for at in range(0, len(data), KEY_BYTES)))
