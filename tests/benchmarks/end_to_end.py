"""A chat model of a real size through the whole demo: sst2 and agnews, as plain text or in its chat template.

    python -m tests.benchmarks.end_to_end --model DIR --proxy DIR --assets DIR --task sst2 --chat --epsilon 8 \
        --work DIR --rows FILE.jsonl

Everything is as the demo does it: three clients, daemons, TLS, ledgers, one round. The run's row is appended to ROWS.
Runs of one task share in WORK what does not depend on ε, so start them one after the other. Sizes are those that one
core can do in an hour on 135 M parameters, and are told in the row.
"""

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import tomli_w
import typer

from tests.benchmarks.quality_tables import PUBLIC, TASKS, public_text
from transfer.errors import UsageError
from transfer.post.starts import STEPS
from transfer.terminal.console import application, run

RECORDS = 4000
SIZES: dict[tuple[str, bool], dict[str, Any]] = {
    ("sst2", False): {"steps": 40, "sample_rate": 0.04, "transfer_steps": 100, "public": 240, "test": 200},
    ("sst2", True): {"steps": 25, "sample_rate": 0.04, "transfer_steps": 60, "public": 240, "test": 200},
    ("agnews", False): {"steps": 25, "sample_rate": 0.03, "transfer_steps": 80, "public": 160, "test": 160},
    ("agnews", True): {"steps": 20, "sample_rate": 0.03, "transfer_steps": 60, "public": 160, "test": 160},
}
"""Of a task, and whether it is a chat: steps and share of the records in tuning, steps of the transfer, public texts,
test rows."""


def first(count: int, source: Path, place: Path) -> Path:
    """Copy the first lines of a file to `place`, and return that."""
    with source.open(encoding="utf-8") as lines:
        place.write_text("".join(islice(lines, count)), encoding="utf-8")
    return place


def row(report: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a run: what is asked of it, and its figures."""
    delivered = {
        key: report["delivered"][key] for key in ("verified", "peft_accuracy", "peft_logits_max_abs_diff")
    }
    privacy = {key: report["privacy"][key] for key in ("epsilon", "delta")}
    figures = {key: report[key] for key in ("accuracy", "seconds", "peak_mib")}
    return {**told, **privacy, **figures, "delivered": delivered}


app = application("Run one soft prompt of a real chat model through the whole system, and append its row.")


@app.command()
def main(
    model: Annotated[Path, typer.Option(exists=True, help="Directory of the target.")],
    proxy: Annotated[Path, typer.Option(exists=True, help="Directory of its proxy.")],
    assets: Annotated[Path, typer.Option(exists=True, help="Folder of data sets and corpora.")],
    task: Annotated[str, typer.Option(help="sst2 or agnews.")],
    work: Annotated[Path, typer.Option(help="Directory of the runs.")],
    rows: Annotated[Path, typer.Option(help="File that gets the row.")],
    chat: Annotated[bool, typer.Option("--chat", help="Write texts in the chat template.")] = False,
    epsilon: Annotated[float, typer.Option(help="Largest ε of each client; inf means no privacy.")] = 8.0,
    ceiling_steps: Annotated[int, typer.Option(min=0, help="Steps of tuning on the target itself.")] = 0,
    public_steps: Annotated[
        int, typer.Option(min=1, help="Steps of the prompt of public text alone.")
    ] = STEPS,
) -> None:
    """Cut the data to size, run deploy/demo.py, and append what it reports."""
    if (task, chat) not in SIZES:
        raise UsageError(f"--task {task!r} must be one of {', '.join(sorted({name for name, _ in SIZES}))}")
    sizes = SIZES[task, chat]
    name = f"{task}-{'chat' if chat else 'plain'}"
    place = work / f"{name}-{epsilon:g}"
    place.mkdir(parents=True, exist_ok=True)
    plan = {
        "tuning": {"steps": sizes["steps"], "sample_rate": sizes["sample_rate"]},
        "transfer": {"steps": sizes["transfer_steps"]},
        "publish": {"require_improvement": False, "formats": 0},
    }
    (place / "plan.toml").write_text(tomli_w.dumps(plan), encoding="utf-8")
    data = assets / "datasets" / task
    options: dict[str, object] = {
        "target": model,
        "proxy": proxy,
        "task": (TASKS / "chat" if chat else TASKS) / f"{task}.toml",
        "private": first(RECORDS, data / "train.jsonl", place / "private.jsonl"),
        "test": first(sizes["test"], data / "test.jsonl", place / "test.jsonl"),
        "public": first(
            sizes["public"], public_text(PUBLIC[task], assets, place), place / "public-texts.jsonl"
        ),
        "plan": place / "plan.toml",
        "rounds": 1,
        "epsilon": epsilon,
        "ceiling-steps": ceiling_steps,
        "public-steps": public_steps,
        "out": place / "out",
        "cache": work / "cache",
    }
    words = [str(word) for key, value in options.items() for word in (f"--{key}", value)]
    demo = Path(__file__).parents[2] / "deploy" / "demo.py"
    subprocess.run(
        [sys.executable, str(demo), *words],
        check=True,
        stdout=sys.stderr,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    report = json.loads((place / "out" / "report.json").read_text(encoding="utf-8"))
    told = {"task": task, "template": "chat" if chat else "plain", **sizes, "public_steps": public_steps}
    with rows.open("a", encoding="utf-8") as out:
        out.write(json.dumps(row(report, told)) + "\n")


if __name__ == "__main__":
    run(app)
