import json
import socket
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from client.home import enrolment
from client.home import settings as config
from client.home.directory import make
from client.home.settings import ClientConfig
from client.vault import keys
from coordinator.home import pki
from coordinator.home.pki import PkiPaths
from coordinator.store.records import ClientState
from transfer.errors import (
    AlreadyExistsError,
    AuthenticationError,
    ConfigError,
    PromptferryError,
    UnavailableError,
    UsageError,
    VerificationError,
)
from transfer.model_ref import ModelRef


@pytest.fixture
def made(tmp_path: Path):
    data = tmp_path / "train.jsonl"
    data.write_text(json.dumps({"text": "fine", "label": 0}) + "\n")

    def make_client(name: str) -> ClientConfig:
        values = {
            ("client", "name"): name,
            ("data", "path"): str(data),
            ("data", "declared_records"): 100,
            ("policy", "max_epsilon"): 8.0,
        }
        return make(tmp_path / name, values)

    return make_client


def refused(settings: ClientConfig, invitation: Path, kind: type[PromptferryError]) -> str:
    with pytest.raises(kind) as caught:
        enrolment.enrol(settings, invitation)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert not settings.enrolment_file.exists()
    return str(caught.value)


def test_an_invitation_becomes_a_pinned_coordinator_that_knows_our_keys(site, made) -> None:
    settings = made("enrol-a")
    done = enrolment.enrol(settings, site.invite("enrol-a"))
    assert done == enrolment.read(settings)
    assert (done.client, done.coordinator, done.fleet) == ("enrol-a", site.address, site.federation.address)
    assert done.publisher == site.publisher.public_key()
    known = site.store.client("enrol-a")
    assert known.state is ClientState.ENROLLED
    assert known.signing_key == keys.load(settings.keys_directory).signing.public_key().public_bytes_raw()
    assert settings.enrolment_file.stat().st_mode & 0o077 == 0
    assert "token" not in settings.enrolment_file.read_text()


def test_enrolling_again_with_the_same_invitation_changes_nothing(site, made) -> None:
    settings, invitation = made("enrol-b"), site.invite("enrol-b")
    first = enrolment.enrol(settings, invitation)
    before = settings.enrolment_file.read_bytes()
    assert enrolment.enrol(settings, invitation) == first
    assert settings.enrolment_file.read_bytes() == before


def test_an_enrolled_client_fetches_a_proxy_its_coordinator_signed(site, made) -> None:
    settings = made("enrol-c")
    done = enrolment.enrol(settings, site.invite("enrol-c"))
    place = settings.proxies_directory / "tiny"
    place.parent.mkdir()
    done.fetch("tiny", place)
    assert ModelRef.of_directory("tiny", place) == site.proxy


def test_a_used_token_is_refused_and_the_keys_are_told_apart(site, made) -> None:
    invitation = site.invite("enrol-d")
    enrolment.enrol(made("enrol-d"), invitation)
    thief = made("enrol-d-copy")
    text = (thief.client.directory / "client.toml").read_text()
    (thief.client.directory / "client.toml").write_text(text.replace("enrol-d-copy", "enrol-d"))
    thief = config.read(thief.client.directory)
    assert "a wrong, used or expired token" in refused(thief, invitation, AuthenticationError)


def test_an_expired_token_is_told_with_its_time(site, made) -> None:
    message = refused(made("enrol-e"), site.invite("enrol-e", timedelta(seconds=-60)), AuthenticationError)
    assert "expired token" in message
    assert "(it expired at 2" in message


def test_an_unknown_client_or_token_is_refused(site, made) -> None:
    invitation = site.invite("enrol-f", token="x" * 43)
    assert "enrolment refused" in refused(made("enrol-f"), invitation, AuthenticationError)


def test_a_coordinator_that_is_down_is_named(site, made) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        message = refused(made("enrol-g"), site.invite("enrol-g", coordinator=address), UnavailableError)
    assert f"no coordinator answers at {address}" in message


def test_a_wrong_ca_is_told_as_such(site, made, tmp_path: Path) -> None:
    paths = PkiPaths.under(tmp_path / "other")
    pki.create(paths)
    invitation = site.invite("enrol-h", ca=paths.ca.read_text())
    message = refused(made("enrol-h"), invitation, VerificationError)
    assert f"the certificate shown at {site.address} is not signed by the given CA" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"publisher_key": "nonsense"}, "publisher_key is not a PEM public key"),
        ({"tokn": "x"}, "unknown key 'tokn'; did you mean 'token'?"),
        ({"expire_time": "soon"}, "expire_time: input should be a valid datetime"),
    ],
)
def test_a_malformed_invitation_is_refused_before_anything_is_sent(site, made, change, message) -> None:
    invitation = site.invite("enrol-i", **change)
    assert refused(made("enrol-i"), invitation, ConfigError).startswith(f"{invitation}: {message}")
    assert site.store.client("enrol-i").state is ClientState.INVITED


def test_a_malformed_ca_or_address_is_refused(site, made) -> None:
    settings = made("enrol-j")
    assert "not a PEM certificate" in refused(settings, site.invite("enrol-j", ca="nonsense"), UsageError)
    invitation = site.invite("enrol-j", coordinator="nowhere")
    assert "'nowhere' is not host:port" in refused(settings, invitation, UsageError)


def test_a_missing_invitation_is_named(made, tmp_path: Path) -> None:
    message = refused(made("enrol-k"), tmp_path / "absent.toml", ConfigError)
    assert message == f"{tmp_path / 'absent.toml'}: cannot read the invitation: No such file or directory"


def test_an_invitation_for_another_client_is_refused(site, made) -> None:
    message = refused(made("enrol-l"), site.invite("enrol-m"), UsageError)
    assert message.endswith("enrol-m.toml invites 'enrol-m', this client is 'enrol-l'")


def test_another_coordinator_never_replaces_the_pinned_one(site, made) -> None:
    settings = made("enrol-n")
    first = enrolment.enrol(settings, site.invite("enrol-n"))
    stranger = Ed25519PrivateKey.generate().public_key()
    pem = stranger.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    with pytest.raises(AlreadyExistsError, match="pins another coordinator"):
        enrolment.enrol(settings, site.invite("enrol-o", client="enrol-n", publisher_key=pem))
    assert enrolment.read(settings) == first


def test_a_damaged_enrolment_is_told(site, made) -> None:
    settings = made("enrol-p")
    enrolment.enrol(settings, site.invite("enrol-p"))
    text = settings.enrolment_file.read_text()
    settings.enrolment_file.write_text(text.replace("BEGIN PUBLIC KEY", "BEGIN"))
    with pytest.raises(ConfigError, match="publisher_key is not a PEM public key"):
        enrolment.read(settings)
