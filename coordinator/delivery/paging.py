"""Pages of a listing (AIP-158): an opaque token names the listing and the start of the next page."""

import base64
import binascii
import re

from transfer.errors import UsageError

DEFAULT_SIZE = 50
MAX_SIZE = 1000
_TOKEN = re.compile(r"(\S+) ([0-9]{1,18})")


def size(requested: int) -> int:
    """Return the number of items on a page for a request; 0 means `DEFAULT_SIZE`.

    Raises:
        UsageError: `requested` is negative.
    """
    if requested < 0:
        raise UsageError(f"page_size {requested} must be ≥ 0")
    return min(requested or DEFAULT_SIZE, MAX_SIZE)


def token(position: int, listing: str) -> str:
    """Return the token for the page after `position` of a listing."""
    return base64.urlsafe_b64encode(f"{listing} {position}".encode()).decode()


def cursor(token: str, listing: str) -> int | None:
    """Return the position in a token; None for the start of the listing.

    Raises:
        UsageError: this module did not make the token, or it is for another listing.
    """
    if not token:
        return None
    try:
        match = _TOKEN.fullmatch(base64.b64decode(token, altchars=b"-_", validate=True).decode())
    except (binascii.Error, ValueError):
        match = None
    if match is None or match[1] != listing:
        raise UsageError(
            "page_token is not one that this listing gave out; pass the next_page_token of the previous page"
        )
    return int(match[2])
