"""Fetching a proxy from a coordinator: its directory appears whole and verified, or not at all."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.remote.coordinator import Remote
from client.remote.download import OnBytes, staged
from client.remote.offers import require_same_files, stated_proxy
from transfer import names
from transfer.errors import VerificationError
from transfer.model_ref import ModelRef
from transfer.protocol.signing import PROXY_PREDICATE, Statement


def fetch_proxy(
    remote: Remote,
    name: str,
    publisher_key: Ed25519PublicKey,
    directory: Path,
    on_bytes: OnBytes | None = None,
) -> Path:
    """Fetch a proxy to `directory`, which appears whole and verified or not at all.

    Raises:
        AlreadyExistsError: `directory` exists.
        VerificationError: the statement is not the publisher's, is about another proxy, or does not match a file or
            the model's digest; nothing is kept.
    """
    offer = remote.proxy(name)
    statement = Statement.verified(offer.statement, publisher_key, PROXY_PREDICATE)
    model = stated_proxy(statement, name)
    require_same_files(offer.files, statement)
    total, done = sum(file.size for file in offer.files), 0
    with staged(directory, model.digest[:16]) as stage:
        for file in offer.files:
            remote.download(names.proxy(name), file, stage, _offset(on_bytes, done, total))
            done += file.size
        actual = ModelRef.of_directory(name, stage)
        if actual.digest != model.digest:
            raise VerificationError(
                f"proxy {name!r}: its files have digest {actual.digest[:16]}…, signed is {model.digest[:16]}…"
            )
    return directory


def _offset(on_bytes: OnBytes | None, before: int, total: int) -> OnBytes | None:
    """Turn progress within one file into progress over all files."""
    return None if on_bytes is None else lambda done, _: on_bytes(before + done, total)
