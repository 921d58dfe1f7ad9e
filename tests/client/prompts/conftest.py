"""What tests of this room share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from client.prompts import command as user
from tests.client.prompts.recipient import TARGET, VECTORS, Outcome
from transfer.terminal import console


@pytest.fixture
def run(
    delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    monkeypatch.setenv("PROMPTFERRY_SERVER", delivery.address)
    monkeypatch.setenv("PROMPTFERRY_CA", str(delivery.paths.ca))
    monkeypatch.setenv("PROMPTFERRY_KEY", str(delivery.paths.publisher_public_key))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def run(*words: object) -> Outcome:
        with pytest.raises(SystemExit) as caught:
            console.run(user.app, [str(word) for word in words])
        printed = capsys.readouterr()
        return Outcome(int(caught.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def fetched(delivery, run, tmp_path: Path) -> Path:
    delivery.publish("sst2", TARGET, VECTORS)
    assert run("fetch", "sst2", "--out", tmp_path / "fetched").status == 0
    (tmp_path / "publisher.pub").write_bytes(delivery.paths.publisher_public_key.read_bytes())
    return tmp_path / "fetched"
