"""Fetching a prompt: every check in its order, and nothing on disk before all of them held.

1. the statement's signature, before anything in it is read;
2. it speaks of the prompt and version asked for, and of the files offered;
3. the version is not older than one seen (only if the latest was asked for);
4. the privacy claimed is what the user accepts;
5. each file's size and digest while it comes, then all of it again as it lies there;
6. only now the directory gets its name, and the version counts as seen.
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
from transfer.artifact import require_names
from transfer.errors import AlreadyExistsError, VerificationError
from transfer.files.atomic import replace
from transfer.prompt import MAX_BYTES
from transfer.protocol.signing import PROMPT_PREDICATE, Statement, key_id


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user asks for.

    Attributes:
        version: a certain one; None is the latest.
        max_epsilon: largest ε accepted of the worst client; None accepts any.
        max_delta: largest δ accepted of the worst client; None accepts any.
    """

    prompt: str
    version: int | None = None
    max_epsilon: float | None = None
    max_delta: float | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """What a user relies on: the publisher's key, and the versions seen before."""

    key: Ed25519PublicKey
    seen: SeenVersions


def fetch(
    remote: Remote, wanted: Wanted, trust: Trust, directory: Path, on_bytes: OnBytes | None = None
) -> Claim:
    """Bring a prompt to `directory`, which appears whole and verified or not at all.

    A directory that holds the very same version already is checked and left as it is.

    Raises:
        VerificationError: one of the checks failed; nothing was written.
        AlreadyExistsError: the directory holds something else.
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
    """Checks 1 to 4: everything that can be checked before the first byte of a file comes.

    Raises:
        VerificationError: one of them failed.
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
    held = artifact.verified(directory, key)
    if artifact.envelope(directory).payload != offer.statement.payload:
        raise AlreadyExistsError(
            f"{directory} holds version {held.version} of {held.prompt!r} already: choose another directory"
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
