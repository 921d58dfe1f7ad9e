"""Content of a file that is sealed whole: a line with the version of the data key, and what that key sealed.

Where nothing is encrypted, the content is as it is.
"""

import re

from client.seal import Seal
from client.vault import Vault

_SEALED = re.compile(rb"promptferry-sealed ([0-9]{1,9})\n(.*)", re.DOTALL)


def sealed(place: str, plain: bytes, seal: Seal) -> bytes:
    """Content of the file at `place`, such as `keys/node.pem`, that holds `plain`."""
    line = b"promptferry-sealed %d\n" % seal.version if seal.version else b""
    return line + seal.seal(place, plain)


def unsealed(place: str, content: bytes, vault: Vault) -> bytes:
    """What the content made by `sealed` holds.

    Raises:
        VerificationError: the vault cannot unseal it, or it is not sealed and should be.
    """
    found = _SEALED.fullmatch(content)
    version, kept = (int(found[1]), found[2]) if found else (0, content)
    return vault.seal(version).unseal(place, kept)
