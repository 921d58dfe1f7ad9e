"""What tests of this room share."""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.store.records import ProxyRecord
from coordinator.store.store import Store
from transfer.files.atomic import FileRef
from transfer.model_ref import ModelRef
from transfer.protocol.signing import STATEMENT_TYPE, Envelope, sign

POSTGRES = os.environ.get("PROMPTFERRY_TEST_POSTGRES", "")
NOW = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
KEY = Ed25519PrivateKey.generate()
needs_postgres = pytest.mark.skipif(
    not POSTGRES, reason="PROMPTFERRY_TEST_POSTGRES is not set: the store is NOT tested on PostgreSQL"
)


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def build(version: int) -> tuple[Envelope, dict[str, bytes]]:
    return sign(b"version %d" % version, STATEMENT_TYPE, KEY), {"a.bin": b"weights", "b.json": b"{}"}


def proxy(name: str) -> ProxyRecord:
    model, parent = ModelRef(name, "a" * 64), ModelRef("target", "b" * 64)
    files = (FileRef.of_bytes("config.json", b"{}"), FileRef.of_bytes("model.safetensors", b"w" * 2**16))
    return ProxyRecord(name, model, parent, (0, 5), files, Path("/srv") / name, build(1)[0], NOW)


def hear(store: Store, outcome: str, envelope: bytes | None) -> str:
    return store.record_reply("one", 1, "clinic-a", outcome, envelope).reason


def stands(store: Store) -> list[tuple[str, str, bytes | None]]:
    return [(reply.client, reply.outcome, reply.envelope) for reply in store.replies("one", 1)]
