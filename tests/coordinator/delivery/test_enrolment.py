from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from coordinator.delivery.enrolment import Enrolment, invite
from coordinator.store.records import Client, ClientState
from coordinator.store.store import Store
from transfer.errors import AlreadyExistsError, AuthenticationError, UnavailableError, UsageError
from transfer.protocol.signing import proof_content

NOW = datetime(2030, 1, 2, tzinfo=UTC)
SIGNING = Ed25519PrivateKey.generate()


def node_pem(curve: ec.EllipticCurve | None = None) -> bytes:
    public = ec.generate_private_key(curve or ec.SECP384R1()).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


NODE = node_pem()


@dataclass
class Flower:
    """Takes nodes down; `failing` is how often it fails before."""

    nodes: dict[str, bytes] = field(default_factory=dict)
    failing: int = 0

    def register(self, key: bytes, name: str) -> int:
        if self.failing:
            self.failing -= 1
            raise UnavailableError("Flower is away")
        self.nodes[name] = key
        return 2**63 + len(self.nodes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(f"sqlite:///{tmp_path}/store.db")) as store:
        yield store


@pytest.fixture
def flower() -> Flower:
    return Flower()


def enrol(
    store: Store,
    flower: Flower,
    token: str,
    *,
    client: str = "clinic-a",
    node: bytes = NODE,
    signing: Ed25519PrivateKey = SIGNING,
    now: datetime = NOW,
) -> Client:
    enrolment = Enrolment(store, flower.register, "fleet:1", clock=lambda: now)
    proof = signing.sign(proof_content(client, token, node))
    return enrolment.enrol(client, token, node, signing.public_key().public_bytes_raw(), proof)


def test_an_invited_client_is_remembered_and_registered(store: Store, flower: Flower) -> None:
    enrol(store, flower, invite(store, "clinic-a", NOW))

    client = store.client("clinic-a")
    assert flower.nodes == {"clinic-a": NODE}
    assert (client.state, client.node_id) == (ClientState.ENROLLED, 2**63 + 1)
    assert client.signing_key == SIGNING.public_key().public_bytes_raw()


def test_a_token_is_long_random_and_never_stored(store: Store, tmp_path: Path) -> None:
    tokens = {invite(store, "clinic-a", NOW) for _ in range(3)}
    store.close()

    assert len(tokens) == 3
    assert all(len(token) == 43 for token in tokens)
    content = b"".join(path.read_bytes() for path in tmp_path.glob("store.db*"))
    assert not any(token.encode() in content for token in tokens)


def test_an_invitation_holds_for_seven_days(store: Store, flower: Flower) -> None:
    token = invite(store, "clinic-a", NOW)
    assert store.client("clinic-a").expire_time == NOW + timedelta(days=7)

    with pytest.raises(AuthenticationError):
        enrol(store, flower, token, now=NOW + timedelta(days=7))
    enrol(store, flower, token, now=NOW + timedelta(days=7, microseconds=-1))


def test_every_invalid_invitation_is_refused_with_the_same_words(store: Store, flower: Flower) -> None:
    used, revoked, late = (invite(store, name, NOW) for name in ("used", "revoked", "late"))
    enrol(store, flower, used, client="used", signing=Ed25519PrivateKey.generate(), node=node_pem())
    enrol(store, flower, revoked, client="revoked")
    store.revoke("revoked")
    before = (store.clients(), dict(flower.nodes))
    far = NOW + timedelta(days=8)

    messages = set()
    for client, token, now in [
        ("nobody", used, NOW),
        ("late", used, NOW),
        ("late", "", NOW),
        ("late", late, far),
        ("used", used, NOW),
        ("revoked", revoked, NOW),
        ("../x", late, NOW),
    ]:
        with pytest.raises(AuthenticationError) as caught:
            enrol(store, flower, token, client=client, now=now)
        messages.add(str(caught.value))
    assert len(messages) == 1
    assert (store.clients(), flower.nodes) == before


def test_enrolling_again_with_the_same_keys_mends_a_broken_registration(store: Store, flower: Flower) -> None:
    token = invite(store, "clinic-a", NOW)
    flower.failing = 1
    with pytest.raises(UnavailableError):
        enrol(store, flower, token)
    assert store.client("clinic-a").node_id is None

    enrol(store, flower, token, now=NOW + timedelta(days=30))
    enrol(store, flower, token)
    assert store.client("clinic-a").node_id == 2**63 + 1


@pytest.mark.parametrize("changed", ["client", "token", "node", "signer"])
def test_a_proof_holds_for_exactly_what_was_signed(store: Store, flower: Flower, changed: str) -> None:
    tokens = {name: invite(store, name, NOW) for name in ("clinic-a", "clinic-b")}
    enrolment = Enrolment(store, flower.register, "fleet:1", clock=lambda: NOW)
    sent = {"client": "clinic-a", "token": tokens["clinic-a"], "node": NODE, "signer": SIGNING}
    proof = SIGNING.sign(proof_content("clinic-a", tokens["clinic-a"], NODE))
    other = {
        "client": "clinic-b",
        "token": tokens["clinic-b"],
        "node": node_pem(),
        "signer": Ed25519PrivateKey.generate(),
    }
    sent[changed] = other[changed]

    signing = sent["signer"].public_key().public_bytes_raw()
    with pytest.raises(AuthenticationError, match="the proof is not by the signing key sent"):
        enrolment.enrol(sent["client"], sent["token"], sent["node"], signing, proof)
    assert flower.nodes == {}
    assert {client.state for client in store.clients()} == {ClientState.INVITED}


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (b"", "node key is not a PEM public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "node key is not a PEM public key"),
        (node_pem(ec.SECP256R1()), "node key is not on the curve P-384"),
    ],
)
def test_a_node_key_of_another_kind_is_refused(
    store: Store, flower: Flower, node: bytes, message: str
) -> None:
    token = invite(store, "clinic-a", NOW)
    with pytest.raises(UsageError, match=message):
        enrol(store, flower, token, node=node)
    assert store.client("clinic-a").state is ClientState.INVITED


def test_a_signing_key_that_is_none_is_refused(store: Store, flower: Flower) -> None:
    enrolment = Enrolment(store, flower.register, "fleet:1")
    with pytest.raises(UsageError, match="signing key is not 32 raw bytes"):
        enrolment.enrol("clinic-a", "t", NODE, b"short", b"x" * 64)


def test_a_key_of_another_client_is_refused(store: Store, flower: Flower) -> None:
    enrol(store, flower, invite(store, "clinic-a", NOW))
    with pytest.raises(AlreadyExistsError, match="enrolled under another name"):
        enrol(store, flower, invite(store, "clinic-b", NOW), client="clinic-b")
