"""Fetching a prompt: the checks in their order; the directory appears only after all of them passed.

1. The statement's signature is valid; nothing in it is read before.
2. The statement is about the requested prompt and version, and about the files offered.
3. The version is not older than one seen before (only if the latest version was requested).
4. The recipient accepts the claimed privacy.
5. Each file has the right size and digest while it arrives; then the whole directory is verified on disk.
6. Only now the directory gets its name, and the version counts as seen.
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.prompts import directory as artifact
from client.prompts.claim import Claim
from client.prompts.rollback import SeenVersions
from client.remote.coordinator import Remote
from client.remote.download import OnBytes, staged
from client.remote.offers import PromptOffer, require_same_files
from transfer.errors import AlreadyExistsError, VerificationError
from transfer.files.atomic import replace
from transfer.peft_directory import require_names
from transfer.prompt import MAX_BYTES
from transfer.protocol.signing import PROMPT_PREDICATE, Statement, key_id


@dataclass(frozen=True, slots=True)
class Wanted:
    """A recipient's request.

    Attributes:
        version: None for the latest.
        max_epsilon: largest ε accepted for any client; None accepts any value.
        max_delta: largest δ accepted for any client; None accepts any value.
    """

    prompt: str
    version: int | None = None
    max_epsilon: float | None = None
    max_delta: float | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """What a recipient relies on: the publisher's key, and the versions seen before."""

    key: Ed25519PublicKey
    seen: SeenVersions


def fetch(
    remote: Remote, wanted: Wanted, trust: Trust, directory: Path, on_bytes: OnBytes | None = None
) -> Claim:
    """Fetch a prompt to `directory`, which appears whole and verified or not at all.

    If the directory already has the same version, it is verified and left as it is.

    Raises:
        VerificationError: a check failed; the directory was not made.
        AlreadyExistsError: the directory contains something else.
        NotFoundError: no such prompt or version is published.
    """
    offer = remote.prompt_version(wanted.prompt, wanted.version)
    claim = checked(offer, wanted, trust)
    if directory.exists():
        _require_same(directory, offer, trust.key)
    else:
        _download(remote, offer, trust.key, directory, on_bytes)
    trust.seen.remember(key_id(trust.key), claim.prompt, claim.version)
    return claim


def checked(offer: PromptOffer, wanted: Wanted, trust: Trust) -> Claim:
    """Run checks 1 to 4, which need no byte of a file.

    Raises:
        VerificationError: a check failed.
    """
    statement = Statement.verified(offer.statement, trust.key, PROMPT_PREDICATE)
    claim = Claim.of(statement)
    claim.require(wanted.prompt, offer.version if wanted.version is None else wanted.version)
    require_names(statement.digests)
    require_same_files(offer.files, statement)
    if oversize := [file.path for file in offer.files if file.size > MAX_BYTES]:
        raise VerificationError(f"{oversize[0]}: larger than {MAX_BYTES} bytes")
    if wanted.version is None:
        trust.seen.require_not_older(key_id(trust.key), claim.prompt, claim.version)
    claim.privacy.require(wanted.max_epsilon, wanted.max_delta)
    return claim


def _require_same(directory: Path, offer: PromptOffer, key: Ed25519PublicKey) -> None:
    if not (directory / artifact.STATEMENT_FILE).is_file():
        raise AlreadyExistsError(f"{directory} exists and is no fetched prompt: choose another directory")
    present = artifact.verified(directory, key)
    if artifact.envelope(directory).payload != offer.statement.payload:
        raise AlreadyExistsError(
            f"{directory} already has version {present.version} of {present.prompt!r}: choose another directory"
        )


def _download(
    remote: Remote, offer: PromptOffer, key: Ed25519PublicKey, directory: Path, on_bytes: OnBytes | None
) -> None:
    tag = "".join(sorted(file.digest[:8] for file in offer.files))
    with staged(directory, tag) as stage:
        for file in offer.files:
            remote.download(offer.name, file, stage, on_bytes)
        replace(stage / artifact.STATEMENT_FILE, artifact.to_json(offer.statement), mode=0o644)
        artifact.verified(stage, key)
