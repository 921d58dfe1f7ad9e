import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import tomli_w
from starlette.responses import PlainTextResponse

from client.commands import doctor as checkup
from client.commands.doctor import examine
from client.home import custody, enrolment
from client.home.directory import make
from client.home.settings import ClientConfig
from client.ledger.ledger import Ledger
from client.vault import vault
from client.vault.seal import Seal
from coordinator.home import certificates, pki
from coordinator.home.pki import PkiPaths
from coordinator.network.admission import Admission, AdmissionLimits
from coordinator.network.https_server import HttpsServer, LinkSettings
from transfer.files.atomic import write_new
from transfer.privacy import Budget, Spend


@pytest.fixture
def client(site, tmp_path: Path, request: pytest.FixtureRequest) -> ClientConfig:
    data = tmp_path / "train.jsonl"
    data.write_text(json.dumps({"text": "fine", "label": 0}) + "\n")
    name = request.node.name.removeprefix("test_").replace("_", "-")[:60]
    values = {
        ("client", "name"): name,
        ("data", "path"): str(data),
        ("data", "declared_records"): 100,
        ("policy", "max_epsilon"): 8.0,
        ("policy", "tasks"): ["reviews"],
        ("policy", "proxies"): ["*"],
    }
    settings = make(tmp_path / "client", values)
    enrolment.enrol(settings, site.invite(name))
    return settings


@pytest.fixture
def found(client: ClientConfig) -> Callable[[], dict[str, tuple[bool, str]]]:
    return lambda: {
        finding.check: (finding.healthy, finding.detail) for finding in examine(client.client.directory)
    }


def test_all_is_well(site, client: ClientConfig, found) -> None:
    findings = found()
    assert [name for name, (healthy, _) in findings.items() if not healthy] == []
    assert findings["policy"][1] == "ε 8 at δ 1e-06 for one record; allows reviews"
    assert findings["delivery"][1] == f"{site.address} answers; 1 proxies"
    assert findings["rounds"][1] == f"{site.federation.address} answers; clocks agree within 60 s"


def test_an_unencrypted_client_is_healthy_and_told_so(client: ClientConfig, found, tmp_path: Path) -> None:
    says = "nothing is encrypted; `promptferry-client encrypt --secret FILE` seals keys and ledger"
    assert found()["encryption"] == (True, says)
    write_new(tmp_path / "secret", b"a passphrase of words")
    custody.reseal(client, tmp_path / "secret")
    findings = found()
    healthy, said = findings["encryption"]
    assert not healthy
    assert said.endswith("seals this client: name the file of its secret in [client] secret")
    assert not findings["ledger"][0]
    settings = client.client.directory / "client.toml"
    settings.write_text(settings.read_text().replace("[client]\n", '[client]\nsecret = "../secret"\n'))
    sealed = f"keys and ledger are sealed with key 1 of {client.vault_file}"
    assert found()["encryption"] == (True, sealed)
    opened = vault.read(client.vault_file, [b"a passphrase of words"])
    replace(opened, seals=(*opened.seals, Seal.new(2))).write(client.vault_file)
    says = "encryption was interrupted: run `promptferry-client encrypt` again as before"
    assert found()["encryption"] == (False, says)


def test_the_ledger_line_tells_what_is_spent(client: ClientConfig, found) -> None:
    with Ledger.open(custody.load(client).ledger) as ledger:
        data_set = ledger.data_set([b"f" * 32])
        ledger.reserve(data_set, "campaigns/a/rounds/1", Spend(2.0, 0.1, 5), Budget(8.0, 1e-6))
        spent = ledger.epsilon(data_set, 1e-6)
    assert found()["ledger"] == (True, f"2 entries hold; ε {spent:.4g} spent of 8")


def test_an_untrusted_or_absent_coordinator_is_told(client: ClientConfig, found, tmp_path: Path) -> None:
    paths = PkiPaths.under(tmp_path / "other")
    pki.create(paths)
    pinned = enrolment.read(client).model_dump()
    client.enrolment_file.write_text(tomli_w.dumps({**pinned, "ca": paths.ca.read_text()}))
    findings = found()
    assert findings["delivery"][0] is findings["rounds"][0] is False
    assert "is not signed by the given CA" in findings["delivery"][1]
    assert "not signed by the pinned CA" in findings["rounds"][1]
    down = {"coordinator": "127.0.0.1:9", "fleet": "127.0.0.1:9"}
    client.enrolment_file.write_text(tomli_w.dumps({**pinned, **down}))
    findings = found()
    assert findings["delivery"] == (False, "no coordinator answers at 127.0.0.1:9: connection refused")
    assert "127.0.0.1:9 cannot be reached" in findings["rounds"][1]


def test_unreadable_settings_end_the_examination(client: ClientConfig, found) -> None:
    (client.client.directory / "client.toml").write_text("[client]\n")
    assert list(found()) == ["settings"]


def test_a_certificate_that_expires_soon_is_told_and_whom_to_ask(
    client: ClientConfig, found, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy, said = found()["certificate"]
    assert healthy
    assert " shows one that holds until 2" in said
    monkeypatch.setattr(checkup, "SOON", timedelta(days=900))
    healthy, said = found()["certificate"]
    assert not healthy
    assert re.search(
        r"the certificate of 127\.0\.0\.1:\d+ expires in 82\d days, on .*: ask its operator", said
    )


def test_an_expired_certificate_is_its_operators_business(
    client: ClientConfig, found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = PkiPaths.under(tmp_path / "late")
    monkeypatch.setattr(certificates, "SERVER_LIFE", timedelta(minutes=-1))
    pki.create(paths)
    pinned = enrolment.read(client)
    link = LinkSettings("127.0.0.1", 0, paths.certificate, paths.key, paths.ca, tmp_path / "flower.db")
    with HttpsServer(PlainTextResponse("hello"), link, Admission(AdmissionLimits())) as late:
        late_one = pinned.model_copy(update={"fleet": late.address, "ca": paths.ca.read_text()})
        monkeypatch.setattr(enrolment, "read", lambda _settings: late_one)
        for healthy, said in (found()[check] for check in ("certificate", "rounds")):
            assert not healthy
            assert said == (
                f"the server at {late.address} shows a certificate that has expired; its operator must renew "
                "it, nothing is wrong here"
            )
