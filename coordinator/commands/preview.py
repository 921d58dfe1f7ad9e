"""`promptferry-coordinator proxy preview`: whether a proxy will carry a prompt, before any budget is spent."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from coordinator.commands.session import of
from transfer.errors import UsageError
from transfer.post.settings import TransferSettings
from transfer.protocol.tuning_defaults import PROMPT_LENGTH
from transfer.tasks import Task
from transfer.terminal import console

ROWS = {
    "target": "target, behind a prompt taught on itself",
    "transferred": "target, behind the transferred prompt",
    "arithmetic": "target, logits of both models added",
    "proxy": "proxy, behind its prompt",
    "bare": "target, bare",
}


def preview(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of a registered proxy.")],
    task: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Task file, with label words.")],
    public_text: Annotated[Path, typer.Option(exists=True, help="Public text, as for a round.")],
    length: Annotated[int, typer.Option(min=1, help="Prompt tokens.")] = PROMPT_LENGTH,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the transfer.")] = TransferSettings().steps,
    seed: Annotated[int, typer.Option(help="Seed of the split and of the batches.")] = 0,
) -> None:
    """Tell by public text whether a proxy will carry a prompt of a task to the target, at no privacy cost.

    The target's own answers, its prior removed, take the place of labels. All figures are shares of held-out texts
    that are answered like these.
    """
    from transfer.files.public_text import read_texts

    session = of(context)
    config = session.config()
    wanted = Task.from_toml(task)
    if not wanted.has_words:
        raise UsageError(f"{task}: a preview needs label words: a bare target has no other answers to teach")
    with session.store() as store:
        record = store.proxy(name)
    texts = read_texts(public_text)
    with console.doing("loading PyTorch"):
        from coordinator.publication.proxies import load_proxy
        from coordinator.publication.transfer import load_target
        from transfer.post import preview as previewing
    with console.doing(f"loading {name} and {config.target.source}"):
        proxy, target = load_proxy(record, config.target.placement), load_target(config.target)
    settings = TransferSettings(steps=steps, seed=seed)
    with console.progress("teaching and transferring") as on_step:
        found = previewing.preview(proxy, target, wanted, texts, length, settings, on_step)
    session.emit({"name": name, "task": wanted.name, **asdict(found), "carried": found.carried}, _shown)


def _shown(found: dict[str, Any]) -> Table:
    carried = "–" if found["carried"] is None else f"{found['carried']:.2f}"
    table = Table(
        title=f"{found['name']} carries {carried} of what the target itself learns", title_justify="left"
    )
    table.add_column(f"answered like the target on {found['texts']} public texts")
    table.add_column("share", justify="right")
    for key, told in ROWS.items():
        table.add_row(told, f"{found[key]:.1%}")
    return table
