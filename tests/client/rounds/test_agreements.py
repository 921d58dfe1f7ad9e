"""What an owner agreed to is remembered, sealed, and taken from nowhere else."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.ledger.ledger import Ledger
from client.ledger.place import LedgerPlace
from client.rounds.consent import Reconnect
from client.vault.seal import Seal
from client.vault.vault import Vault
from tests.client.rounds.answers import Owner
from transfer.errors import ConfigError
from transfer.protocol.rounds import RoundRequest


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    with Ledger.create(LedgerPlace(tmp_path / "ledger.db", Ed25519PrivateKey.generate())) as ledger:
        yield Owner(tmp_path, ledger)


def test_a_damaged_list_of_campaigns_is_refused_in_one_line(owner: Owner, first: RoundRequest) -> None:
    owner.file.write_text("[1")
    with pytest.raises(
        ConfigError, match=r"consents\.json is not a list of accepted campaigns: delete it; you will be asked"
    ):
        owner.consent.require(first)
    assert owner.questions == []


def test_a_sealed_list_of_campaigns_shows_none_and_is_taken_from_nowhere_else(
    owner: Owner, first: RoundRequest
) -> None:
    with pytest.raises(Reconnect):
        owner.consent.require(first)
    plain = owner.file.read_bytes()
    assert b"fever" in plain
    owner.file.unlink()
    owner.vault = Vault((Seal.new(1), Seal.new(2)))
    with pytest.raises(Reconnect):
        owner.started().require(first)
    owner.started().require(first)
    sealed = owner.file.read_bytes()
    assert sealed.startswith(b"promptferry-sealed 2\n")
    assert b"fever" not in sealed
    other = replace(owner.started().agreements, file=owner.file.with_name("other.json"))
    other.file.write_bytes(sealed)
    with pytest.raises(ConfigError, match=r"other\.json is not a list of accepted campaigns"):
        other.read()
    for content in (plain, sealed[:-1], sealed.replace(b"sealed 2", b"sealed 1"), b""):
        owner.file.write_bytes(content)
        with pytest.raises(ConfigError, match="delete it; you will be asked again for each one"):
            owner.started().require(first)
