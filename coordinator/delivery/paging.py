"""Pages of a listing (AIP-158): an opaque token says where the next page starts, and of which listing."""

import base64
import binascii
import re

from transfer.errors import UsageError

DEFAULT_SIZE = 50
MAX_SIZE = 1000
_TOKEN = re.compile(r"(\S+) ([0-9]{1,18})")


def size(asked: int) -> int:
    """Items on a page for what a caller asked; 0 is "as you like".

    Raises:
        UsageError: negative.
    """
    if asked < 0:
        raise UsageError(f"page_size {asked} must be ≥ 0")
    return min(asked or DEFAULT_SIZE, MAX_SIZE)


def token(position: int, listing: str) -> str:
    """Token that leads on from `position` of a listing."""
    return base64.urlsafe_b64encode(f"{listing} {position}".encode()).decode()


def cursor(token: str, listing: str) -> int | None:
    """Position a token holds; None for the start of the listing.

    Raises:
        UsageError: the token is none of ours, or of another listing.
    """
    if not token:
        return None
    try:
        match = _TOKEN.fullmatch(base64.b64decode(token, altchars=b"-_", validate=True).decode())
    except (binascii.Error, ValueError):
        match = None
    if match is None or match[1] != listing:
        raise UsageError("page_token is not one that this listing gave out")
    return int(match[2])
