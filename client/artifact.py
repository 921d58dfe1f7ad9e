"""A fetched prompt on disk: a PEFT directory with its signed statement beside, checkable offline."""

import base64
import binascii
import json
from pathlib import Path

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.claim import Claim
from transfer.errors import UsageError, VerificationError
from transfer.prompt import CONFIG_FILE, HEAD_FILE, HEAD_KEY, MAX_BYTES, WEIGHTS_FILE, SoftPrompt
from transfer.signing import PROMPT_PREDICATE, Envelope, Statement

STATEMENT_FILE = "statement.dsse.json"
FILES = frozenset({CONFIG_FILE, WEIGHTS_FILE})
"""What every published prompt consists of; with a head it has `HEAD_FILE` as well."""


def verified(directory: Path, key: Ed25519PublicKey) -> Claim:
    """Check a directory against its statement, then read it: signature, then digests, then content.

    Raises:
        UsageError: there is no such directory.
        VerificationError: the statement is missing or not signed by `key`, or a file is missing, was not
            signed, or differs.
    """
    statement = Statement.verified(envelope(directory), key, PROMPT_PREDICATE)
    require_prompt_files(statement)
    present = {path.name for path in directory.iterdir() if not path.name.startswith(".")} - {STATEMENT_FILE}
    for name in sorted(present | statement.digests.keys()):
        path = directory / name
        if name in present and (not path.is_file() or path.stat().st_size > MAX_BYTES):
            raise VerificationError(f"{path}: not a file of at most {MAX_BYTES} bytes")
        if name not in present:
            raise VerificationError(f"{path}: missing, though it was signed")
        statement.check(name, path.read_bytes())
    claim = Claim.of(statement)
    SoftPrompt.from_bytes((directory / WEIGHTS_FILE).read_bytes(), claim.target)
    if (HEAD_FILE in present) != bool(claim.task.head_rows):
        raise VerificationError(f"{directory / HEAD_FILE}: a head and a task read by one belong together")
    if claim.task.head_rows:
        head(directory, claim)
    return claim


def head(directory: Path, claim: Claim) -> torch.Tensor:
    """The head [C, H] of a directory that was verified.

    Raises:
        VerificationError: it has another number of classes than the task.
    """
    rows = SoftPrompt.from_bytes((directory / HEAD_FILE).read_bytes(), claim.target, HEAD_KEY)
    if rows.length != claim.task.head_rows:
        raise VerificationError(
            f"{directory / HEAD_FILE}: {rows.length} classes where the task has {claim.task.head_rows}"
        )
    return rows.vectors


def require_prompt_files(statement: Statement) -> None:
    """Refuse a statement about other files than a prompt's.

    Raises:
        VerificationError: see above.
    """
    if statement.digests.keys() not in (FILES, FILES | {HEAD_FILE}):
        raise VerificationError(
            f"the statement is about {sorted(statement.digests)}, a prompt is {sorted(FILES)}"
        )


def envelope(directory: Path) -> Envelope:
    """The statement of a directory, unverified.

    Raises:
        UsageError: there is no such directory.
        VerificationError: the statement is missing or no DSSE envelope.
    """
    path = directory / STATEMENT_FILE
    if not directory.is_dir():
        raise UsageError(f"{directory}: no such directory")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise VerificationError(f"{path}: larger than {MAX_BYTES} bytes")
        return from_json(path.read_bytes())
    except OSError as error:
        raise VerificationError(f"{path}: cannot read the signed statement: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise VerificationError(f"{path}: not a DSSE envelope: {error!r}") from error


def to_json(envelope: Envelope) -> bytes:
    """Envelope as a DSSE JSON file (https://github.com/secure-systems-lab/dsse/blob/master/envelope.md)."""
    content = {
        "payloadType": envelope.payload_type,
        "payload": base64.b64encode(envelope.payload).decode(),
        "signatures": [{"keyid": envelope.key_id, "sig": base64.b64encode(envelope.signature).decode()}],
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def from_json(data: bytes) -> Envelope:
    """What `to_json` wrote.

    Raises:
        ValueError, LookupError, TypeError, RecursionError: it did not.
    """
    content = json.loads(data)
    (signature,) = content["signatures"]
    return Envelope(
        str(content["payloadType"]),
        _decode(content["payload"]),
        str(signature["keyid"]),
        _decode(signature["sig"]),
    )


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error
