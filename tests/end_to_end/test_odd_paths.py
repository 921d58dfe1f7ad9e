"""A campaign in directories whose names mean something in URLs, globs, TOML, markup and shells."""

import json
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.processes import BIN, command
from tests.end_to_end.campaign import TEXTS, Campaign
from transfer.tasks import Task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ODD = "b]-what? now%41#[0-9]*'\"\\ä\u3000&$(x)?mode=memory"


def told(*words: object, status: int = 0) -> str:
    """What a command says; it must end so and without a traceback."""
    given = [str(word) for word in words]
    done = subprocess.run([BIN / given[0], *given[1:]], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
    return done.stdout


def test_a_campaign_is_carried_out_in_directories_of_any_name(
    tiny_causal: Path, tiny_task: Task, tmp_path: Path
) -> None:
    home = tmp_path / "x[" / ODD  # together they close a tag of rich's markup
    home.mkdir(parents=True)
    target = shutil.copytree(tiny_causal, home / f"target {ODD}")
    campaign = Campaign(home, target, tiny_task)
    rows = [{"text": f"{TEXTS[n % 4]} {n}", "label": n % 2} for n in range(20)]
    client = "promptferry-client", "--dir", campaign.client(0)
    with ExitStack() as stack:
        campaign.start(stack, rows, "--records", 20)
        campaign.launch()
        prompt = home / f"prompt {ODD}"
        fetched = command(
            "promptferry", "fetch", "reviews", "--out", prompt, "--server", f"127.0.0.1:{campaign.delivery}",
            "--ca", campaign.coordinator / "pki" / "ca.pem", "--key", campaign.coordinator / "publisher.pub",
            "--state", home / f"seen {ODD}", json_result=True,
        )  # fmt: skip
        assert fetched["directory"] == str(prompt)
        proxy = campaign.client(0) / "proxies" / "tiny"
        checked = json.loads(
            told(*client, "--format", "json", "data", "check", "--task", home / "task.toml", "--proxy", proxy)
        )
        assert checked["lengths"]["cut_records"] == 0
        told(*client, "data", "check", "--task", home / "task.toml")
        told(*client, "doctor")
        told("promptferry-coordinator", "--dir", campaign.coordinator, "doctor")
        told(*client, "plan", home / "plan.toml", status=5)  # the campaign has spent what it would need
        told(*client, "audit", "--only", "mechanism", "--trials", 2_000, "--page", home / f"page {ODD}.html")
    told("promptferry", "verify", prompt, "--key", campaign.coordinator / "publisher.pub")
    secret = home / f"secret {ODD}"
    secret.write_text("a passphrase of words\n")
    secret.chmod(0o600)
    line = (
        told(*client, "encrypt", "--secret", secret)
        .partition("now write ")[2]
        .partition(" under [client]")[0]
    )
    settings = campaign.client(0) / "client.toml"
    settings.write_text(settings.read_text().replace("[client]", f"[client]\n{line}"))
    told(*client, "ledger", "verify")
    assert [path.name for path in (tmp_path / "x[").iterdir()] == [ODD]
    assert (campaign.coordinator / "store.db").stat().st_size
    assert (campaign.coordinator / "flower.db").stat().st_size


def test_a_directory_may_begin_with_a_dash(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told("promptferry-coordinator", "init", "--target", tiny_causal, "--", "-c?")
    told("promptferry-coordinator", "--dir", "-c?", "client", "list")
    Path("-data.csv").write_text("text,label\nfine,0\n")
    given = "--name", "a", "--data", "-data.csv", "--records", 10, "--epsilon", 1
    told("promptferry-client", "init", *given, "--", "-a%41")
    told("promptferry-client", "--dir", "-a%41", "data", "check", "--labels", "a,b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["-a%41", "-c?", "-data.csv"]
