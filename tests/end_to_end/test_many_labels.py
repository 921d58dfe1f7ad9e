"""Several labels a record, from the owners' files to what a recipient is told, in real processes."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.processes import command
from tests.end_to_end.campaign import TEXTS, Campaign
from transfer.tasks import Label, Task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_prompt_of_several_labels_goes_from_the_owners_to_a_recipient(
    tiny_causal: Path, tiny_task: Task, tmp_path: Path
) -> None:
    labels = Label("film", ()), Label("praise", ()), Label("noise", ())
    task = replace(
        tiny_task, template="{text}", labels=labels, label_reading="head", many=True, threshold=0.4
    )
    campaign = Campaign(tmp_path, tiny_causal, task)
    sets = ["film", "praise"], ["film"], ["praise"], []
    rows = [{"text": f"{TEXTS[n % 4]} {n}", "labels": sets[n % 4]} for n in range(20)]
    key = "--key", campaign.coordinator / "publisher.pub"
    with ExitStack() as stack:
        campaign.start(stack, rows, "--records", 20)
        counted = command(
            "promptferry-client", "--dir", campaign.client(0), "data", "check", "--task", tmp_path / "task.toml",
            json_result=True,
        )  # fmt: skip
        assert counted["labels"] == {"film": 10, "praise": 10, "noise": 0}
        campaign.launch()
        fetched = command(
            "promptferry", "fetch", "reviews", "--out", tmp_path / "prompt",
            "--server", f"127.0.0.1:{campaign.delivery}", "--ca", campaign.coordinator / "pki" / "ca.pem", *key,
            json_result=True,
        )  # fmt: skip
        assert fetched["verified"]
    tried = command(
        "promptferry", "try", tmp_path / "prompt", "--model", tiny_causal, *key,
        "--text", TEXTS[0], "--text", TEXTS[3], json_result=True,
    )  # fmt: skip
    for result in tried["results"]:
        assert list(result["probabilities"]) == ["film", "praise", "noise"]
        over = [name for name, chance in result["probabilities"].items() if chance > 0.4]
        assert result["labels"] == over
    for log in (campaign.client(0) / "daemon.log", campaign.serve_log):
        assert "liked" not in log.read_text()
