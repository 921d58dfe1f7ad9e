"""Certificates that expire soon or have: told at once, in one line, with what to do."""

import logging
from datetime import timedelta

import pytest
from cryptography import x509

from coordinator.commands import serve as serving
from coordinator.home import certificates, pki
from coordinator.home import renewal as expiry
from coordinator.home.pki import PkiPaths
from coordinator.store.records import utc_now
from transfer.errors import ConfigError


@pytest.fixture
def make(tmp_path, monkeypatch):
    def made(**lives: timedelta) -> PkiPaths:
        for name, life in lives.items():
            monkeypatch.setattr(certificates, name, life)
        paths = PkiPaths.under(tmp_path / "coordinator")
        pki.create(paths, ["models.example.org", "192.0.2.7"])
        return paths

    return made


def test_certificates_of_init_are_nothing_to_tell_about(make) -> None:
    paths = make()
    assert expiry.expiring(paths, utc_now()) == []
    assert len(expiry.expiring(paths, utc_now() + timedelta(days=800))) == 1


def test_what_expires_within_thirty_days_is_one_line_each_with_its_remedy(make) -> None:
    paths = make(SERVER_LIFE=timedelta(days=5, hours=1), AUTHORITY_LIFE=timedelta(days=29, hours=1))
    authority, server = expiry.expiring(paths, utc_now())
    assert f"{paths.certificate}: the server certificate expires in 5 days, on 2" in server
    assert server.endswith("`promptferry-coordinator renew` makes a new one; then start `serve` again")
    assert f"{paths.ca}: the certificate authority expires in 29 days" in authority
    assert "have every client enrol there" in authority


@pytest.mark.parametrize(
    ("life", "what"),
    [("SERVER_LIFE", "server certificate"), ("AUTHORITY_LIFE", "certificate authority")],
)
def test_what_has_expired_is_an_error(make, life: str, what: str) -> None:
    paths = make(**{life: timedelta(minutes=-1)})
    with pytest.raises(ConfigError, match=rf"the {what} expired on 2.*: `"):
        expiry.expiring(paths, utc_now())


def test_a_renewed_certificate_is_for_the_same_key_and_names_under_the_same_authority(make) -> None:
    paths = make(SERVER_LIFE=timedelta(minutes=-1))
    old, authority = pki.certificate(paths.certificate), paths.ca.read_bytes()
    certificates.SERVER_LIFE = timedelta(days=825)  # the fixture's monkeypatch puts it back
    assert expiry.renew(paths) - utc_now() > timedelta(days=800)
    new = pki.certificate(paths.certificate)
    kind = x509.SubjectAlternativeName
    names = [item.extensions.get_extension_for_class(kind).value for item in (old, new)]
    assert names[0] == names[1]
    assert new.public_key() == old.public_key()
    assert paths.ca.read_bytes() == authority
    new.verify_directly_issued_by(pki.certificate(paths.ca))
    pki.load_server(paths)
    assert expiry.expiring(paths, utc_now()) == []


def test_while_serving_it_is_told_once_a_day(make, monkeypatch, caplog: pytest.LogCaptureFixture) -> None:
    class Idle:
        def beat(self, _now: object) -> None: ...

        def clients(self) -> tuple[()]:
            return ()

    paths = make(SERVER_LIFE=timedelta(days=5))
    attendant = serving._Attendant(Idle(), Idle(), paths)
    now = serving.time.monotonic()
    told = []
    for hours in (1, 23, 25, 26, 48, 50):
        caplog.clear()
        monkeypatch.setattr(serving.time, "monotonic", lambda at=now + hours * 3600: at)
        with caplog.at_level(logging.WARNING):
            attendant.attend()
        told.append(sum("expires in" in record.message for record in caplog.records))
    assert told == [0, 0, 1, 0, 0, 1]
