"""The coordinator's commands on a real directory, store and keys; nothing serves here."""

import stat

from coordinator.home.settings import read


def test_init_makes_a_directory_whose_secrets_are_its_owners_alone(command):
    made = {
        str(path.relative_to(command.directory)) for path in command.directory.rglob("*") if path.is_file()
    }
    assert {"coordinator.toml", "publisher.key", "publisher.pub", "secret", "store.db", "pki/ca.pem"} <= made
    for name in ("publisher.key", "secret", "pki/ca.key", "pki/server.key", "store.db"):
        assert stat.S_IMODE((command.directory / name).stat().st_mode) == 0o600, name
    config = read(command.directory)
    assert (config.target.name, config.delivery.port, config.flower.port) == ("tiny-target", 29292, 29191)


def test_init_never_touches_a_directory_that_is_one_already(command, tiny_causal):
    before = (command.directory / "secret").read_bytes()
    assert command("init", command.directory, "--target", tiny_causal) == 1
    assert "coordinator.toml exists already" in command.err
    assert (command.directory / "secret").read_bytes() == before


def test_an_impossible_setting_makes_nothing(command, tmp_path, tiny_causal):
    answer = command.json("init", tmp_path / "new", "--target", tiny_causal, "--port", 70000)
    assert (command.status, answer["error"]) == (2, "config")
    assert "[delivery] port" in answer["message"]
    assert not (tmp_path / "new").exists()


def test_an_init_that_was_interrupted_is_finished_with_the_same_keys(command, tiny_causal):
    (command.directory / "coordinator.toml").unlink()
    before = (command.directory / "secret").read_bytes()
    assert command("init", command.directory, "--target", tiny_causal) == 0
    assert (command.directory / "secret").read_bytes() == before


def test_a_directory_that_is_no_coordinators_is_told_how_to_become_one(command, tmp_path):
    command.directory = tmp_path / "nowhere"
    assert command("round", "list") == 2
    assert "promptferry-coordinator init" in command.err
