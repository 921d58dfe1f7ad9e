"""A fetched prompt on disk: its files (`transfer.peft_directory`) and their signed statement; they verify offline."""

import base64
import binascii
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.prompts.claim import Claim
from transfer.errors import UsageError, VerificationError
from transfer.peft_directory import FILES, HEAD_FILE, PeftDirectory, require_names
from transfer.prompt import MAX_BYTES
from transfer.protocol.signing import PROMPT_PREDICATE, Envelope, Statement

STATEMENT_FILE = "statement.dsse.json"


def verified(directory: Path, key: Ed25519PublicKey) -> Claim:
    """Verify a directory against its statement, in this order: signature, digests, content.

    Raises:
        UsageError: there is no such directory.
        VerificationError: the statement is missing or not signed by `key`, or a file is missing, unsigned or
            different.
    """
    statement = Statement.verified(envelope(directory), key, PROMPT_PREDICATE)
    require_names(statement.digests)
    present = {path.name for path in directory.iterdir() if not path.name.startswith(".")} - {STATEMENT_FILE}
    for name in sorted(present | statement.digests.keys()):
        path = directory / name
        if name in present and (not path.is_file() or path.stat().st_size > MAX_BYTES):
            raise VerificationError(f"{path}: not a file of at most {MAX_BYTES} bytes")
        if name not in present:
            raise VerificationError(f"{path}: missing, but the statement names it: fetch the prompt again")
        statement.check(name, path.read_bytes())
    claim = Claim.of(statement)
    content(directory, claim)
    return claim


def content(directory: Path, claim: Claim) -> PeftDirectory:
    """Read the prompt, and the head if there is one, of a verified directory.

    Raises:
        VerificationError: the files do not contain what the task needs.
    """
    files = {
        name: (directory / name).read_bytes() for name in FILES | {HEAD_FILE} if (directory / name).exists()
    }
    try:
        task = claim.task
        return PeftDirectory.from_files(files, claim.target, task.head_rows, task.prompt_at)
    except VerificationError as error:
        raise VerificationError(f"{directory}: {error}") from error


def envelope(directory: Path) -> Envelope:
    """Read the statement of a directory, unverified.

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
    """Write an envelope as DSSE JSON (https://github.com/secure-systems-lab/dsse/blob/master/envelope.md)."""
    content = {
        "payloadType": envelope.payload_type,
        "payload": base64.b64encode(envelope.payload).decode(),
        "signatures": [{"keyid": envelope.key_id, "sig": base64.b64encode(envelope.signature).decode()}],
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def from_json(data: bytes) -> Envelope:
    """Read what `to_json` wrote.

    Raises:
        ValueError, LookupError, TypeError, RecursionError: `data` is something else.
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
