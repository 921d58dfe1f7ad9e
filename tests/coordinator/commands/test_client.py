"""`promptferry-coordinator client`: who takes part."""

import stat
import tomllib

from coordinator.store.records import ClientState


def test_an_invitation_holds_what_a_client_needs_and_is_its_readers_alone(command, tmp_path, store):
    out = tmp_path / "ada.toml"
    answer = command.json("client", "invite", "ada", "--out", out)
    invitation = tomllib.loads(out.read_text())
    assert set(invitation) == {"client", "token", "coordinator", "ca", "publisher_key", "expire_time"}
    assert invitation["coordinator"] == answer["coordinator"] == "127.0.0.1:29292"
    assert invitation["publisher_key"] == (command.directory / "publisher.pub").read_text()
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert store.client("ada").state is ClientState.INVITED


def test_an_invitation_is_never_overwritten_and_a_bad_name_writes_none(command, tmp_path, store):
    assert command("client", "invite", "ada", "--out", tmp_path / "a.toml") == 0
    before = (tmp_path / "a.toml").read_bytes()
    assert command("client", "invite", "ben", "--out", tmp_path / "a.toml") == 1
    assert (tmp_path / "a.toml").read_bytes() == before
    assert command("client", "invite", "Ada Lovelace", "--out", tmp_path / "b.toml") == 2
    assert not (tmp_path / "b.toml").exists()
    assert [client.name for client in store.clients()] == ["ada"]


def test_a_coordinator_that_listens_everywhere_needs_a_public_address_to_invite(command, tmp_path):
    path = command.directory / "coordinator.toml"
    path.write_text(path.read_text().replace('host = "127.0.0.1"', 'host = "0.0.0.0"'))
    assert command("client", "invite", "ada", "--out", tmp_path / "a.toml") == 2
    assert "public_address" in command.err
    assert not (tmp_path / "a.toml").exists()


def test_clients_are_listed_and_revoked(command, tmp_path):
    command("client", "invite", "ada", "--out", tmp_path / "a.toml")
    assert command.json("client", "revoke", "ada")["state"] == "revoked"
    assert [item["state"] for item in command.json("client", "list")] == ["revoked"]
    assert command.json("client", "revoke", "eve") == {"error": "not_found", "message": "no client 'eve'"}
    assert command.status == 1
