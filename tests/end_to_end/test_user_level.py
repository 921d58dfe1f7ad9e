"""A campaign that protects users, from `client init --users` to `promptferry fetch`, in real processes."""

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
import tomli_w

from deploy.processes import BIN, command, daemon, free_ports
from transfer.tasks import Task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TEXTS = ["The film was great.", "A terrible plot", "We liked the music", "Nobody liked the noise"]


def written(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_prompt_that_protects_users_says_so_to_whoever_fetches_it(
    tiny_causal: Path, tiny_task: Task, tmp_path: Path
) -> None:
    public = written(tmp_path / "public.jsonl", [{"text": f"{TEXTS[n % 4]} {n}"} for n in range(80)])
    task = tmp_path / "task.toml"
    labels = {label.name: list(label.words) for label in tiny_task.labels}
    said = {"name": "reviews", "template": tiny_task.template, "init_text": tiny_task.init_text}
    task.write_text(tomli_w.dumps({**said, "max_tokens": 64, "labels": labels}))
    delivery, fleet = free_ports(2)
    coordinator = tmp_path / "coordinator"
    operator = ("promptferry-coordinator", "--dir", coordinator)
    command(
        "promptferry-coordinator", "init", coordinator, "--target", tiny_causal, "--port", delivery,
        "--fleet-port", fleet, "--threads", 1,
    )  # fmt: skip
    command(*operator, "proxy", "distil", "--layers", 1, "--text", public, "--name", "tiny", "--steps", 2)
    with ExitStack() as stack:
        stack.enter_context(daemon(*operator, "serve", log=tmp_path / "serve.log", ready="serving:"))
        for number in range(3):
            home = tmp_path / f"client-{number}"
            rows = [
                {"text": f"{TEXTS[n % 4]} {n}", "label": n % 2, "user": f"patient {n % 4}"} for n in range(20)
            ]
            data = written(tmp_path / f"private-{number}.jsonl", rows)
            command(
                "promptferry-client", "init", home, "--name", f"client-{number}", "--data", data, "--users", 4,
                "--epsilon", 8, "--task", "reviews", "--proxy", "*", "--threads", 1,
            )  # fmt: skip
            invitation = tmp_path / f"invitation-{number}.toml"
            command(*operator, "client", "invite", f"client-{number}", "--out", invitation)
            command("promptferry-client", "--dir", home, "enrol", invitation)
            log = home / "daemon.log"
            stack.enter_context(
                daemon("promptferry-client", "--dir", home, "run", log=log, ready="connected")
            )
        plan = {
            "name": "users", "task": str(task), "proxy": "tiny", "public_text": str(public), "rounds": 2,
            "tuning": {"epsilon": 8.0, "steps": 2, "sample_rate": 0.5, "unit": "user"}, "transfer": {"steps": 2},
            "publish": {"prompt": "reviews", "require_improvement": False},
        }  # fmt: skip
        (tmp_path / "plan.toml").write_text(tomli_w.dumps(plan))
        command(*operator, "round", "launch", tmp_path / "plan.toml", "--wait")
        fetched = command(
            "promptferry", "fetch", "reviews", "--out", tmp_path / "prompt", "--max-epsilon", 8,
            "--server", f"127.0.0.1:{delivery}", "--ca", coordinator / "pki" / "ca.pem",
            "--key", coordinator / "publisher.pub", json_result=True,
        )  # fmt: skip
        assert fetched["unit"] == "user"
        shown = "promptferry-client", "--dir", tmp_path / "client-0", "--format", "json", "ledger", "show"
        done = subprocess.run([BIN / shown[0], *shown[1:]], stdout=subprocess.PIPE, check=True)
        ledger = json.loads(done.stdout)
        assert [each["unit"] for each in ledger["data_sets"]] == ["user"]
    for log in (tmp_path / "client-0" / "daemon.log", tmp_path / "serve.log"):
        assert "patient" not in log.read_text()
