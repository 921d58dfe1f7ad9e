"""`promptferry-client encrypt`: a client's directory is encrypted, and its secret changed."""

from pathlib import Path

from client.home import settings as config
from tests.client.commands.command import Command, spend
from transfer.files.atomic import write_new
from transfer.privacy import Spend


def test_init_with_a_secret_starts_encrypted_and_encrypt_changes_the_secret(
    client: Command, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        write_new(tmp_path / name, f"the passphrase number {name}".encode())
    assert client.init("--secret", tmp_path / "one") == 0
    assert config.read(client.directory).client.secret == tmp_path / "one"
    assert b"PRIVATE KEY" not in (client.directory / "keys" / "signing.pem").read_bytes()
    spend(client, Spend(1.0, 0.1, 10), 1)
    assert client("encrypt") == 0
    assert client.out == "sealed keys and ledger with key 2\n"
    assert client("encrypt", "--secret", tmp_path / "two") == 0
    told = f'secret = "{tmp_path / "two"}"'
    assert f"now write {told} under [client] in" in client.out.replace("\n", " ")
    assert client("ledger", "verify") == 2
    assert "the secret does not open it" in client.err
    settings = client.directory / "client.toml"
    settings.write_text(settings.read_text().replace(f'secret = "{tmp_path / "one"}"', told))
    assert client.json("ledger", "verify")["entries"] == 3
    assert client.json("encrypt") == {"key": 4, "secret": str(tmp_path / "two")}


def test_an_existing_client_is_encrypted_by_a_secret_of_the_owners_choice(
    ready: Command, tmp_path: Path
) -> None:
    assert ready("encrypt") == 2
    assert ready.err == "error: encrypting needs a secret: name its file with --secret FILE\n"
    write_new(tmp_path / "secret", b"a passphrase of words", 0o644)
    assert ready("encrypt", "--secret", tmp_path / "secret") == 2
    assert "is open to others (mode 0644)" in ready.err
    (tmp_path / "secret").chmod(0o400)
    assert ready("encrypt", "--secret", tmp_path / "secret") == 0
    assert ready("ledger", "show") == 2
    assert "vault.json seals this client: name the file of its secret in [client] secret" in ready.err
