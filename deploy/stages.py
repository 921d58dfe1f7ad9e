"""The stages of a run on one machine; each is a few commands that you can also type."""

import hashlib
import json
import random
import shutil
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from rich.console import Console

from client.private.records import read
from deploy.memory import watching
from deploy.processes import command, daemon, free_ports
from transfer.files import public_text
from transfer.models.loading import load
from transfer.tasks import Task

DELTA = 1e-6
PROXY = "demo-proxy"


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of a run; `private` has one file for each client, `proxy` is the directory of a finished proxy."""

    target: str
    task: Path
    corpus: Path
    public: Path
    private: tuple[Path, ...]
    test: Path
    proxy: Path | None = None


@dataclass(slots=True)
class Run:
    """One run in the directory `out`: its options, and what each stage took, in seconds and in MiB."""

    out: Path
    epsilon: float
    rounds: int
    proxy_layers: int
    distil_steps: int
    seed: int
    plan: dict[str, Any]
    ceiling_steps: int
    public_steps: int
    cache: Path
    seconds: dict[str, float] = field(default_factory=dict)
    peak_mib: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Print the stage's name, and record the duration of the body and the most memory that it took."""
        Console(stderr=True).rule(f"[bold]{name}", align="left")
        start = time.monotonic()
        with watching() as peak:
            yield
        self.seconds[name] = round(time.monotonic() - start, 1)
        self.peak_mib[name] = peak.bytes // 2**20

    @property
    def coordinator(self) -> Path:
        """The coordinator's directory."""
        return self.out / "coordinator"

    def published(self, task: Task) -> str:
        """Return the name that the campaign publishes its prompt under."""
        return str(self.plan.get("publish", {}).get("prompt", task.name))

    def operate(self, *words: object, json_result: bool = False) -> Any:
        """Run a coordinator command."""
        return command("promptferry-coordinator", "--dir", self.coordinator, *words, json_result=json_result)

    def client(self, index: int) -> Path:
        """Directory of client `index`, counted from 1."""
        return self.out / f"client-{index}"

    def own(self, index: int, *words: object, json_result: bool = False) -> Any:
        """Run a command of client `index`."""
        return command("promptferry-client", "--dir", self.client(index), *words, json_result=json_result)


def split(path: Path, task: Task, clients: int, out: Path, seed: int) -> tuple[Path, ...]:
    """Shuffle the records of a file and split them into one disjoint file for each client."""
    records, labels = read(path, task.label_names, many=task.many), task.label_names
    key = "labels" if task.many else "label" if labels else "answer"
    # write labels by name, because a label's name may be a number that looks like another label's index
    named = tuple(
        [labels[index] for index in own] if isinstance(own, tuple) else labels[own] for own in records.labels
    )
    rows = list(zip(records.texts, named or records.answers, strict=True))
    random.Random(seed).shuffle(rows)
    shards = tuple(out / f"private-{index}.jsonl" for index in range(1, clients + 1))
    for index, shard in enumerate(shards):
        lines = (json.dumps({"text": text, key: value}) for text, value in rows[index::clients])
        shard.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return shards


def set_up(demo: Run, inputs: Inputs, task: Task) -> None:
    """Make a coordinator directory, and one client directory for each private file."""
    fleet, delivery = free_ports(2)
    command(
        "promptferry-coordinator", "init", demo.coordinator,
        "--target", inputs.target, "--fleet-port", fleet, "--port", delivery,
    )  # fmt: skip
    for index, shard in enumerate(inputs.private, 1):
        records = len(read(shard, task.label_names, many=task.many).texts)
        command(
            "promptferry-client", "init", demo.client(index), "--name", f"client-{index}", "--data", shard,
            "--records", records, "--epsilon", demo.epsilon, "--delta", min(DELTA, 1 / (10 * records)),
            "--task", task.name, "--proxy", "*", "--threads", 1,
        )  # fmt: skip


def place_of(directory: Path, recipe: str) -> Path:
    """Return the place in a directory of the cache for what `recipe` decides."""
    return directory / hashlib.sha256(recipe.encode()).hexdigest()[:16]


def make_proxy(demo: Run, inputs: Inputs) -> None:
    """Distil the proxy at the coordinator, or register a finished or cached one of the same target and settings."""
    if inputs.proxy:
        demo.operate("proxy", "register", inputs.proxy, "--name", PROXY)
        return
    text = public_text.digest_of(inputs.corpus)
    recipe = f"{load(inputs.target).ref.digest} {text} {demo.proxy_layers} {demo.distil_steps}"
    cached = place_of(demo.cache / "proxies", recipe)
    if cached.is_dir():
        demo.operate("proxy", "register", cached, "--name", PROXY)
        return
    demo.operate(
        "proxy", "distil", "--layers", demo.proxy_layers, "--text", inputs.corpus, "--name", PROXY,
        "--steps", demo.distil_steps,
    )  # fmt: skip
    draft = cached.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(demo.coordinator / "proxies" / PROXY, draft)
    draft.rename(cached)


def own_proxy(demo: Run, inputs: Inputs) -> None:
    """Let a client distil a proxy itself from the open weights, so that it has nothing to download."""
    demo.own(
        1, "proxy", "distil", "--target", inputs.target, "--layers", demo.proxy_layers, "--text", inputs.corpus,
        "--name", "own", "--steps", min(20, demo.distil_steps),
    )  # fmt: skip


def enrol(demo: Run, clients: int) -> None:
    """Invite every client, enrol it, and fetch the proxy, which the client checks by digest."""
    for index in range(1, clients + 1):
        invitation = demo.out / f"invitation-{index}.toml"
        demo.operate("client", "invite", f"client-{index}", "--out", invitation)
        demo.own(index, "enrol", invitation)
        demo.own(index, "proxy", "fetch", PROXY)


def write_plan(demo: Run, inputs: Inputs, task: Task) -> Path:
    """Write the round plan for the operator, and return its path."""
    plan = {
        "name": "demo",
        "task": str(inputs.task.resolve()),
        "proxy": PROXY,
        "public_text": str(inputs.public.resolve()),
        "rounds": demo.rounds,
        "min_clients": len(inputs.private),
        "deadline_s": 3600.0,
        "seed": demo.seed,
        **demo.plan,
        "publish": {**demo.plan.get("publish", {}), "prompt": demo.published(task)},
    }
    if task.kind == "text":
        plan["transfer"] = {"space": "vocabulary", **plan.get("transfer", {})}
    plan["tuning"] = {"epsilon": demo.epsilon, "delta": DELTA, **plan.get("tuning", {})}
    path = demo.out / "plan.toml"
    path.write_text(tomli_w.dumps(plan), encoding="utf-8")
    return path


def campaign(demo: Run, inputs: Inputs, task: Task) -> None:
    """Start the daemons, run the campaign to its end, and fetch the published prompt as a recipient."""
    clients = len(inputs.private)
    with ExitStack() as running:
        log = demo.coordinator / "serve.log"
        running.enter_context(
            daemon("promptferry-coordinator", "--dir", demo.coordinator, "serve", log=log, ready="serving:")
        )
        with demo.stage("enrol"):
            enrol(demo, clients)
        for index in range(1, clients + 1):
            words = ("promptferry-client", "--dir", demo.client(index), "run")
            running.enter_context(daemon(*words, log=demo.client(index) / "daemon.log", ready="connected"))
        with demo.stage("campaign"):
            demo.operate("round", "launch", write_plan(demo, inputs, task), "--wait")
        with demo.stage("deliver"):
            settings = tomllib.loads((demo.coordinator / "coordinator.toml").read_text(encoding="utf-8"))
            command(
                "promptferry", "fetch", demo.published(task), "--out", demo.out / "prompt",
                "--server", f"127.0.0.1:{settings['delivery']['port']}", "--ca", demo.coordinator / "pki/ca.pem",
                "--key", demo.coordinator / "publisher.pub", "--state", demo.out / "versions.json",
            )  # fmt: skip
