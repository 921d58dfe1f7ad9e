"""A whole campaign of real processes in one directory: operator, daemons, plan, as their users start them."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import tomli_w

from deploy.processes import command, daemon, free_ports
from transfer.tasks import Task

CLIENTS = 3
TEXTS = ("The film was great.", "A terrible plot", "We liked the music", "Nobody liked the noise")


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Campaign:
    """A coordinator with one tiny proxy, and the files its operator writes."""

    def __init__(self, directory: Path, target: Path, task: Task) -> None:
        self.directory, self.coordinator = directory, directory / "coordinator"
        self.delivery, self.fleet = free_ports(2)
        self.public = written(
            directory / "public.jsonl", [{"text": f"{TEXTS[n % 4]} {n}"} for n in range(80)]
        )
        said = {"name": "reviews", "template": task.template, "init_text": task.init_text, "max_tokens": 64}
        labels = {label.name: list(label.words) for label in task.labels}
        if task.head_rows:
            said |= {"label_reading": "head", "many": task.many, "threshold": task.threshold}
        (directory / "task.toml").write_text(tomli_w.dumps({**said, "labels": labels}))
        made = "--target", target, "--port", self.delivery, "--fleet-port", self.fleet, "--threads", 1
        command("promptferry-coordinator", "init", self.coordinator, *made)
        self.operate("proxy", "distil", "--layers", 1, "--text", self.public, "--name", "tiny", "--steps", 2)

    @property
    def serve_log(self) -> Path:
        return self.directory / "serve.log"

    def client(self, number: int) -> Path:
        return self.directory / f"client-{number}"

    def operate(self, *words: object) -> None:
        command("promptferry-coordinator", "--dir", self.coordinator, *words)

    def start(self, stack: ExitStack, rows: list[dict[str, Any]], *declared: object) -> None:
        """The server, and clients that each hold `rows` and declare so many records or users."""
        serve = "promptferry-coordinator", "--dir", self.coordinator, "serve"
        stack.enter_context(daemon(*serve, log=self.serve_log, ready="serving:"))
        for number in range(CLIENTS):
            self._join(stack, number, rows, declared)

    def launch(self, **tuning: object) -> None:
        """Run a campaign of two rounds to its end."""
        plan = {
            "name": "tried", "task": "task.toml", "proxy": "tiny", "public_text": str(self.public), "rounds": 2,
            "tuning": {"epsilon": 8.0, "steps": 2, "sample_rate": 0.5, **tuning}, "transfer": {"steps": 2},
            "publish": {"prompt": "reviews", "require_improvement": False},
        }  # fmt: skip
        path = self.directory / "plan.toml"
        path.write_text(tomli_w.dumps(plan))
        self.operate("round", "launch", path, "--wait")

    def _join(
        self, stack: ExitStack, number: int, rows: list[dict[str, Any]], declared: tuple[object, ...]
    ) -> None:
        home, name = self.client(number), f"client-{number}"
        data = written(self.directory / f"private-{number}.jsonl", rows)
        allowed = "--epsilon", 8, "--task", "reviews", "--proxy", "*", "--threads", 1
        command("promptferry-client", "init", home, "--name", name, "--data", data, *declared, *allowed)
        invitation = self.directory / f"invitation-{number}.toml"
        self.operate("client", "invite", name, "--out", invitation)
        command("promptferry-client", "--dir", home, "enrol", invitation)
        run = "promptferry-client", "--dir", home, "run"
        stack.enter_context(daemon(*run, log=home / "daemon.log", ready="connected"))
