"""What a coordinator offers comes as values, unverified."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from client.remote.coordinator import Remote
from client.remote.proxy_fetch import fetch_proxy
from coordinator.home import pki
from transfer.errors import (
    VerificationError,
)
from transfer.model_ref import ModelRef
from transfer.protocol.signing import PROXY_PREDICATE, STATEMENT_TYPE, Statement, sign, statement

TARGET = ModelRef("target", "a" * 64)
VECTORS = torch.ones(2, 4)


def test_what_was_published_comes_as_values(delivery, remote: Remote) -> None:
    version = delivery.publish("sst2", TARGET, VECTORS)
    delivery.publish("agnews", TARGET, VECTORS)

    offer = remote.prompt_version("sst2")
    assert (offer.name, offer.files, offer.statement) == (version.name, version.files, version.statement)
    assert offer.create_time == version.create_time
    assert remote.prompt_version("sst2", 1) == offer
    assert [found.name for found in remote.prompt_versions()] == [
        "prompts/agnews/versions/1",
        "prompts/sst2/versions/1",
    ]
    assert list(remote.prompt_versions("sst2")) == [offer]


def test_a_long_listing_comes_whole_and_in_order(delivery, remote: Remote) -> None:
    for _ in range(105):
        delivery.publish("sst2", TARGET, VECTORS)
    assert [offer.version for offer in remote.prompt_versions("sst2")] == list(range(105, 0, -1))


def test_proxies_come_as_values(delivery, remote: Remote, tiny_causal: Path) -> None:
    record = delivery.add_proxy("tiny", tiny_causal)
    offer = remote.proxy("tiny")
    assert (offer.name, offer.model, offer.parent) == (record.name, record.model, record.parent)
    assert (offer.layers, offer.files, offer.statement) == (record.layers, record.files, record.statement)
    assert list(remote.proxies()) == [offer]


def test_files_offered_beside_the_signed_ones_are_refused(
    delivery, remote: Remote, tiny_causal: Path, tmp_path: Path
) -> None:
    record = delivery.add_proxy("tiny", tiny_causal)
    digests = {file.path: file.digest for file in record.files[1:]}
    key = pki.load_publisher(delivery.paths.publisher_key).public_key()
    said = dict(Statement.verified(record.statement, key, PROXY_PREDICATE).predicate)
    said["proxy"] = {"name": "less", "digest": record.model.digest}
    signer = pki.load_publisher(delivery.paths.publisher_key)
    envelope = sign(statement(digests, PROXY_PREDICATE, said), STATEMENT_TYPE, signer)
    delivery.store.add_proxy(replace(record, name="less", statement=envelope))
    with pytest.raises(VerificationError, match="the files offered are not the ones in the signed statement"):
        fetch_proxy(remote, "less", signer.public_key(), tmp_path / "got")
