"""Demo: one soft prompt from private text to a recipient, on one machine with real processes, TLS and ledgers.

Without arguments it makes its own small world. With --target, --task, --private, --public and --test it uses your
model and your data:

    python deploy/demo.py --target DIR_OR_HUB_ID --task TASK.toml --private train.jsonl \
        --public public.jsonl --test test.jsonl --clients 3 --epsilon 8 --out DIR

The result is a table on stdout and OUT/report.json; everything else goes to stderr.
"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
import typer
from rich.console import Console

from client.private.records import PrivateRecords, read
from coordinator.store.database import sqlite_url
from coordinator.store.store import Store
from deploy.measure import PUBLIC, Measured, figures, in_stock_peft, scores, table
from deploy.processes import command
from deploy.stages import PROXY, Inputs, Run, campaign, make_proxy, own_proxy, set_up, split
from deploy.world import make
from transfer.distillation.proxy import Proxy
from transfer.errors import UsageError
from transfer.files.public_text import read_texts
from transfer.files.text import toml
from transfer.models.loading import load
from transfer.post.starts import STEPS
from transfer.prompt import SoftPrompt
from transfer.protocol.round_wire import reply_fields
from transfer.tasks import Task
from transfer.terminal.console import application, doing, log_to_stderr, progress, run

app = application("Run one soft prompt through the whole system on one machine.")


def final_prompt(demo: Run, proxy: Proxy) -> SoftPrompt:
    """Return the aggregate of the last round from the coordinator's store."""
    store = Store.open(sqlite_url(demo.coordinator / "store.db"))
    try:
        last = store.rounds("demo")[-1]
    finally:
        store.close()
    return SoftPrompt.from_bytes(last.prompt or b"", proxy.model.ref)


def report(demo: Run, inputs: Inputs, task: Task) -> dict[str, Any]:
    """Measure the run and write OUT/report.json."""
    with doing("loading proxy and target"):
        proxy = Proxy.load(demo.coordinator / "proxies" / PROXY)
        run = Measured(
            task,
            load(inputs.target),
            proxy.model,
            final_prompt(demo, proxy),
            demo.out / "prompt",
            read(inputs.test, task.label_names, many=task.many),
            read_texts(inputs.public)[:PUBLIC],
            demo.ceiling_steps,
            demo.public_steps,
            demo.cache,
        )
    shards = [read(shard, task.label_names, many=task.many) for shard in inputs.private]
    everyone = PrivateRecords(
        tuple(text for shard in shards for text in shard.texts),
        tuple(label for shard in shards for label in shard.labels),
        tuple(answer for shard in shards for answer in shard.answers),
    )
    with demo.stage("measure"):
        with progress("answering the test, and tuning on the target") as on_step:
            reached = scores(run, everyone, on_step)
        with doing("answering the test through stock PEFT"):
            peft_accuracy, difference = in_stock_peft(run, inputs.target)
    verified = command(
        "promptferry",
        "verify",
        demo.out / "prompt",
        "--key",
        demo.coordinator / "publisher.pub",
        json_result=True,
    )
    spent = [
        {"client": f"client-{index}", **demo.own(index, "ledger", "show", json_result=True)["data_sets"][0]}
        for index in range(1, len(shards) + 1)
    ]
    result = {
        **figures(task, reached),
        "privacy": {key: verified[key] for key in ("epsilon", "delta", "unit", "accountant")},
        "clients": len(inputs.private),
        "rounds": demo.rounds,
        "seconds": demo.seconds,
        "peak_mib": demo.peak_mib,
        "delivered": {
            "name": verified["name"],
            "version": verified["version"],
            "verified": verified["verified"],
            "peft_accuracy": None if peft_accuracy is None else round(peft_accuracy, 4),
            "peft_logits_max_abs_diff": difference,
        },
        "egress": {"fields": reply_fields()},
        "spent": spent,
    }
    (demo.out / "report.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    Console().print(table(result, spent))
    return result


def fresh(out: Path) -> None:
    """Make an empty output directory in place of an earlier run's.

    Raises:
        UsageError: `out` has content that no run made.
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
    target: Annotated[
        str | None, typer.Option(help="Causal or masked LM, or a backbone: directory, or cached hub name.")
    ] = None,
    task: Annotated[
        Path | None, typer.Option(exists=True, help="Task file: template, labels, label words.")
    ] = None,
    private: Annotated[
        Path | None, typer.Option(exists=True, help="Labelled text, split among the clients.")
    ] = None,
    public: Annotated[
        Path | None, typer.Option(exists=True, help="Unlabelled public text for the transfer.")
    ] = None,
    test: Annotated[Path | None, typer.Option(exists=True, help="Labelled text for the measurement.")] = None,
    corpus: Annotated[
        Path | None, typer.Option(exists=True, help="Public text for the distillation; default: --public.")
    ] = None,
    clients: Annotated[
        int, typer.Option(min=3, help="Data owners; their policies require a cohort of three.")
    ] = 3,
    epsilon: Annotated[float, typer.Option(help="Largest ε of each client; inf means no privacy.")] = 8.0,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the campaign.")] = 3,
    proxy_layers: Annotated[int, typer.Option(min=1, help="Layers of the proxy.")] = 2,
    distil_steps: Annotated[int, typer.Option(min=0, help="Most distillation steps.")] = 600,
    proxy: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Finished proxy of --target, in place of distilling."
        ),
    ] = None,
    ceiling_steps: Annotated[
        int,
        typer.Option(
            min=0, help="Steps of tuning on the target without privacy, up to four times; 0 leaves it out."
        ),
    ] = 300,
    public_steps: Annotated[
        int, typer.Option(min=1, help="Steps that teach the target a prompt of public text alone.")
    ] = STEPS,
    plan: Annotated[
        Path | None,
        typer.Option(exists=True, help="TOML whose keys override the plan's."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory of the run.")] = Path("demo-out"),
    cache: Annotated[
        Path, typer.Option(help="Cache of worlds, distilled proxies and prompts of public text.")
    ] = Path("demo-cache"),
    seed: Annotated[int, typer.Option(help="Seed of everything but privacy noise.")] = 0,
) -> None:
    """Tune one soft prompt on private text, transfer it to the target and fetch it as a recipient."""
    yours = (target, task, private, public, test)
    if any(yours) and not all(yours):
        raise UsageError("give --target, --task, --private, --public and --test together, or none of them")
    if proxy and not target:
        raise UsageError(
            f"--proxy {proxy} is of no target that is named; give --target and your data as well"
        )
    log_to_stderr("info")
    fresh(out)
    torch.manual_seed(seed)
    if target is None:  # for such a narrow model, more threads only wait for each other
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)
    overrides = toml(plan.read_bytes()) if plan else {}
    demo = Run(
        out.resolve(),
        epsilon,
        rounds,
        proxy_layers,
        distil_steps,
        seed,
        overrides,
        ceiling_steps,
        public_steps,
        cache,
    )
    with demo.stage("prepare"):
        inputs = replace(prepare(demo, yours, corpus, clients), proxy=proxy)
    wanted = Task.from_toml(inputs.task)
    load(inputs.target).encoder(wanted)  # refuses an unusable task before the slow distillation
    set_up(demo, inputs, wanted)
    with demo.stage("distil"):
        make_proxy(demo, inputs)
    if target is None:
        with demo.stage("distil at a client"):
            own_proxy(demo, inputs)
    campaign(demo, inputs, wanted)
    report(demo, inputs, wanted)


def prepare(demo: Run, yours: tuple[Any, ...], corpus: Path | None, clients: int) -> Inputs:
    """Return your model and data, split among the clients, or the demo's own world."""
    target, task, private, public, test = yours
    if target is None:
        world = make(demo.cache / "world", seed=demo.seed, clients=clients)
        return Inputs(str(world.target), world.task, world.corpus, world.public, world.private, world.test)
    place = str(Path(target).resolve()) if Path(target).exists() else target
    shards = split(private, Task.from_toml(task), clients, demo.out, demo.seed)
    return Inputs(place, task, (corpus or public).resolve(), public.resolve(), shards, test)


if __name__ == "__main__":
    run(app)
