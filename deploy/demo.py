"""Carry one soft prompt the whole way on one machine: real processes, real TLS, real privacy ledger.

Without arguments it makes its own small world. With --target, --task, --private, --public and --test it does the
same with a model and data of yours:

    python deploy/demo.py --target DIR_OR_HUB_ID --task TASK.toml --private train.jsonl \
        --public public.jsonl --test test.jsonl --clients 3 --epsilon 8 --out DIR

The result is a table on stdout and OUT/report.json; everything else goes to stderr.
"""

import hashlib
import json
import os
import random
import shutil
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import tomli_w
import torch
import typer
from rich.console import Console

from client.private_data import PrivateRecords, read
from coordinator.store import Store
from deploy.measure import Measured, accuracies, in_stock_peft, table
from deploy.processes import command, daemon, free_ports
from deploy.world import make
from transfer.console import application, progress, run
from transfer.errors import UsageError
from transfer.models import load
from transfer.prompt import SoftPrompt
from transfer.proxy import Proxy
from transfer.tasks import Task
from transfer.wire import reply_fields

DELTA = 1e-6
PROXY = "demo-proxy"
app = application("Carry one soft prompt the whole way on one machine.")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a run starts from; `private` holds one file a client."""

    target: str
    task: Path
    corpus: Path
    public: Path
    private: tuple[Path, ...]
    test: Path


@dataclass(slots=True)
class Run:
    """One run in `out`: its options, and the seconds each stage took."""

    out: Path
    epsilon: float
    rounds: int
    proxy_layers: int
    distil_steps: int
    seed: int
    plan: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Say what is being done, and remember how long it took."""
        Console(stderr=True).rule(f"[bold]{name}", align="left")
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)

    @property
    def coordinator(self) -> Path:
        """The coordinator's directory."""
        return self.out / "coordinator"

    def operate(self, *words: object, json_result: bool = False) -> Any:
        """Run a coordinator command."""
        return command("promptferry-coordinator", "--dir", self.coordinator, *words, json_result=json_result)

    def client(self, index: int) -> Path:
        """Directory of client `index`, counted from 1."""
        return self.out / f"client-{index}"

    def own(self, index: int, *words: object, json_result: bool = False) -> Any:
        """Run a command of client `index`."""
        return command("promptferry-client", "--dir", self.client(index), *words, json_result=json_result)


def split(path: Path, labels: tuple[str, ...], clients: int, out: Path, seed: int) -> tuple[Path, ...]:
    """Shuffle a labelled file into one disjoint file a client."""
    records = read(path, labels)
    rows = list(zip(records.texts, records.labels, strict=True))
    random.Random(seed).shuffle(rows)
    shards = tuple(out / f"private-{index}.jsonl" for index in range(1, clients + 1))
    for index, shard in enumerate(shards):
        lines = (json.dumps({"text": text, "label": label}) for text, label in rows[index::clients])
        shard.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return shards


def set_up(demo: Run, inputs: Inputs, task: Task) -> None:
    """A coordinator directory, and one client directory a shard."""
    fleet, delivery = free_ports(2)
    command(
        "promptferry-coordinator", "init", demo.coordinator,
        "--target", inputs.target, "--fleet-port", fleet, "--port", delivery,
    )  # fmt: skip
    for index, shard in enumerate(inputs.private, 1):
        records = len(read(shard, task.label_names).texts)
        command(
            "promptferry-client", "init", demo.client(index), "--name", f"client-{index}", "--data", shard,
            "--records", records, "--epsilon", demo.epsilon, "--delta", min(DELTA, 1 / (10 * records)),
            "--task", task.name, "--proxy", "*", "--threads", 1,
        )  # fmt: skip


def make_proxy(demo: Run, inputs: Inputs, cache: Path) -> None:
    """Distil the proxy at the coordinator; one made before from the same target and text is registered instead."""
    with inputs.corpus.open("rb") as file:
        text = hashlib.file_digest(file, "sha256").hexdigest()
    recipe = f"{load(inputs.target).ref.digest} {text} {demo.proxy_layers} {demo.distil_steps}"
    kept = cache / "proxies" / hashlib.sha256(recipe.encode()).hexdigest()[:16]
    if kept.is_dir():
        demo.operate("proxy", "register", kept, "--name", PROXY)
        return
    demo.operate(
        "proxy", "distil", "--layers", demo.proxy_layers, "--text", inputs.corpus, "--name", PROXY,
        "--steps", demo.distil_steps,
    )  # fmt: skip
    draft = kept.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(demo.coordinator / "proxies" / PROXY, draft)
    draft.rename(kept)


def own_proxy(demo: Run, inputs: Inputs) -> None:
    """The other way to a proxy: a client distils one from the open weights, and nobody has to send it."""
    demo.own(
        1, "proxy", "distil", "--target", inputs.target, "--layers", demo.proxy_layers, "--text", inputs.corpus,
        "--name", "own", "--steps", min(20, demo.distil_steps),
    )  # fmt: skip


def enrol(demo: Run, clients: int) -> None:
    """Invite every client, let it enrol, and let it fetch the proxy, checked by digest."""
    for index in range(1, clients + 1):
        invitation = demo.out / f"invitation-{index}.toml"
        demo.operate("client", "invite", f"client-{index}", "--out", invitation)
        demo.own(index, "enrol", invitation)
        demo.own(index, "proxy", "fetch", PROXY)


def write_plan(demo: Run, inputs: Inputs, task: Task) -> Path:
    """The round plan for the operator."""
    plan = {
        "name": "demo",
        "task": str(inputs.task.resolve()),
        "proxy": PROXY,
        "public_text": str(inputs.public.resolve()),
        "rounds": demo.rounds,
        "min_clients": len(inputs.private),
        "deadline_s": 3600.0,
        "seed": demo.seed,
        "publish": {"prompt": task.name},
        **demo.plan,
    }
    plan["tuning"] = {"epsilon": demo.epsilon, "delta": DELTA, **plan.get("tuning", {})}
    path = demo.out / "plan.toml"
    path.write_text(tomli_w.dumps(plan), encoding="utf-8")
    return path


def campaign(demo: Run, inputs: Inputs, task: Task) -> None:
    """Start the daemons, run the campaign to its end, fetch the published prompt as a user would."""
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
                "promptferry", "fetch", task.name, "--out", demo.out / "prompt",
                "--server", f"127.0.0.1:{settings['delivery']['port']}", "--ca", demo.coordinator / "pki/ca.pem",
                "--key", demo.coordinator / "publisher.pub", "--state", demo.out / "versions.json",
            )  # fmt: skip


def final_prompt(demo: Run, proxy: Proxy) -> SoftPrompt:
    """The aggregate of the last round, from the coordinator's own store."""
    store = Store.open(f"sqlite:///{demo.coordinator / 'store.db'}")
    try:
        last = store.rounds("demo")[-1]
    finally:
        store.close()
    return SoftPrompt.from_bytes(last.prompt or b"", proxy.model.ref)


def report(demo: Run, inputs: Inputs, task: Task) -> dict[str, Any]:
    """Measure the run and write OUT/report.json."""
    proxy = Proxy.load(demo.coordinator / "proxies" / PROXY)
    test = read(inputs.test, task.label_names)
    run = Measured(task, load(inputs.target), proxy.model, final_prompt(demo, proxy), demo.out / "prompt", test)
    shards = [read(shard, task.label_names) for shard in inputs.private]
    everyone = PrivateRecords(
        tuple(text for shard in shards for text in shard.texts), tuple(label for shard in shards for label in shard.labels)
    )
    with demo.stage("measure"), progress("tuning the ceiling") as on_step:
        reached = accuracies(run, everyone, on_step)
        peft_accuracy, difference = in_stock_peft(run, inputs.target)
    verified = command(
        "promptferry", "verify", demo.out / "prompt", "--key", demo.coordinator / "publisher.pub", json_result=True
    )
    spent = [
        {"client": f"client-{index}", **demo.own(index, "ledger", "show", json_result=True)["data_sets"][0]}
        for index in range(1, len(shards) + 1)
    ]
    result = {
        "accuracy": reached,
        "privacy": {key: verified[key] for key in ("epsilon", "delta", "unit", "accountant")},
        "clients": len(inputs.private),
        "rounds": demo.rounds,
        "seconds": demo.seconds,
        "delivered": {
            "name": verified["name"],
            "version": verified["version"],
            "verified": verified["verified"],
            "peft_accuracy": round(peft_accuracy, 4),
            "peft_logits_max_abs_diff": difference,
        },
        "egress": {"fields": reply_fields()},
        "spent": spent,
    }
    (demo.out / "report.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    Console().print(table(result, spent))
    return result


def fresh(out: Path) -> None:
    """An empty output directory; an earlier run's is replaced, anything else is left alone.

    Raises:
        UsageError: `out` exists and no run made it.
    """
    marker = out / ".promptferry-demo"
    if out.exists() and any(out.iterdir()):
        if not marker.exists():
            raise UsageError(f"{out}: is not empty and not from an earlier demo; choose another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    marker.touch()


@app.command()
def main(
    target: Annotated[str | None, typer.Option(help="Causal or masked LM: directory or hub name.")] = None,
    task: Annotated[Path | None, typer.Option(help="Task file: template, labels, label words.")] = None,
    private: Annotated[Path | None, typer.Option(help="Labelled text, split among the clients.")] = None,
    public: Annotated[Path | None, typer.Option(help="Unlabelled text to transfer with.")] = None,
    test: Annotated[Path | None, typer.Option(help="Labelled text to measure on.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="Public text to distil on; --public if not given.")] = None,
    clients: Annotated[int, typer.Option(min=1, help="Data owners.")] = 3,
    epsilon: Annotated[float, typer.Option(help="ε each client may spend; inf for no privacy.")] = 8.0,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the campaign.")] = 3,
    proxy_layers: Annotated[int, typer.Option(min=1, help="Layers the proxy keeps.")] = 2,
    distil_steps: Annotated[int, typer.Option(min=0, help="Most distillation steps.")] = 600,
    plan: Annotated[Path | None, typer.Option(help="TOML with [prompt], [tuning], [transfer] to override.")] = None,
    out: Annotated[Path, typer.Option(help="Directory of the run.")] = Path("demo-out"),
    cache: Annotated[Path, typer.Option(help="Where made worlds and distilled proxies are kept.")] = Path("demo-cache"),
    seed: Annotated[int, typer.Option(help="Of everything but privacy noise.")] = 0,
) -> None:
    """Carry one soft prompt from private text to the target and into a user's hands."""
    given = (target, task, private, public, test)
    if any(given) and not all(given):
        raise UsageError("give --target, --task, --private, --public and --test together, or none of them")
    fresh(out)
    torch.manual_seed(seed)
    overrides = tomllib.loads(plan.read_text(encoding="utf-8")) if plan else {}
    demo = Run(out.resolve(), epsilon, rounds, proxy_layers, distil_steps, seed, overrides)
    with demo.stage("prepare"):
        inputs = prepare(demo, given, corpus, cache, clients)
    wanted = Task.from_toml(inputs.task)
    set_up(demo, inputs, wanted)
    with demo.stage("distil"):
        make_proxy(demo, inputs, cache)
    if target is None:
        with demo.stage("distil at a client"):
            own_proxy(demo, inputs)
    campaign(demo, inputs, wanted)
    report(demo, inputs, wanted)


def prepare(demo: Run, given: tuple[Any, ...], corpus: Path | None, cache: Path, clients: int) -> Inputs:
    """The user's model and data, split among the clients, or the demo's own world."""
    target, task, private, public, test = given
    if target is None:
        world = make(cache / "world", seed=demo.seed, clients=clients)
        return Inputs(str(world.target), world.task, world.corpus, world.public, world.private, world.test)
    place = str(Path(target).resolve()) if Path(target).exists() else target
    labels = Task.from_toml(task).label_names
    shards = split(private, labels, clients, demo.out, demo.seed)
    return Inputs(place, task, (corpus or public).resolve(), public.resolve(), shards, test)


if __name__ == "__main__":
    run(app)
