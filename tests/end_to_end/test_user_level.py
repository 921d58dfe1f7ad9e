"""A campaign that protects users, from `client init --users` to `promptferry fetch`, in real processes."""

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.processes import BIN, command
from tests.end_to_end.campaign import TEXTS, Campaign
from transfer.tasks import Task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_prompt_that_protects_users_says_so_to_whoever_fetches_it(
    tiny_causal: Path, tiny_task: Task, tmp_path: Path
) -> None:
    campaign = Campaign(tmp_path, tiny_causal, tiny_task)
    rows = [{"text": f"{TEXTS[n % 4]} {n}", "label": n % 2, "user": f"patient {n % 4}"} for n in range(20)]
    with ExitStack() as stack:
        campaign.start(stack, rows, "--users", 4)
        campaign.launch(unit="user")
        fetched = command(
            "promptferry", "fetch", "reviews", "--out", tmp_path / "prompt", "--max-epsilon", 8,
            "--server", f"127.0.0.1:{campaign.delivery}", "--ca", campaign.coordinator / "pki" / "ca.pem",
            "--key", campaign.coordinator / "publisher.pub", json_result=True,
        )  # fmt: skip
        assert fetched["unit"] == "user"
        shown = "promptferry-client", "--dir", campaign.client(0), "--format", "json", "ledger", "show"
        done = subprocess.run([BIN / shown[0], *shown[1:]], stdout=subprocess.PIPE, check=True)
        ledger = json.loads(done.stdout)
        assert [each["unit"] for each in ledger["data_sets"]] == ["user"]
    for log in (campaign.client(0) / "daemon.log", campaign.serve_log):
        assert "patient" not in log.read_text()
