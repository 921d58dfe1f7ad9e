"""`promptferry-client proxy fetch | distil | list`: the models a client tunes on."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from client.session import of
from transfer import console
from transfer.errors import AlreadyExistsError

app = console.application("The proxies in this client's directory.")


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the proxies that are here, with the digests a policy names."""
    from client import config
    from client.proxies import Proxies
    from transfer.prompt import ModelRef

    session = of(context)
    here = Proxies(config.read(session.directory).proxies_directory).directories()
    session.emit([ModelRef.of_directory(path.name, path) for path in here], _listed)


def _listed(models: list[Any]) -> Table:
    table = Table("proxy", "digest")
    for model in models:
        table.add_row(model.name, model.digest)
    return table


@app.command("fetch")
def fetch(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Name at the coordinator.")]
) -> None:
    """Fetch a proxy from the enrolled coordinator and check its signature and digests."""
    from client import config, enrolment
    from transfer.names import checked
    from transfer.prompt import ModelRef

    session = of(context)
    settings = config.read(session.directory)
    place = settings.proxies_directory / checked("proxy", name)
    _require_free(place)
    place.parent.mkdir(mode=0o700, exist_ok=True)
    enrolment.read(settings).fetch(name, place)
    session.emit(ModelRef.of_directory(name, place), lambda ref: f"fetched {ref.name} {ref.digest}")


@app.command("distil")
def distil(
    context: typer.Context,
    target: Annotated[str, typer.Option(help="Target: directory, or name in the local Hugging Face cache.")],
    layers: Annotated[int, typer.Option(help="Layers the proxy keeps.")],
    text: Annotated[Path, typer.Option(help="Public text, .jsonl or .txt.")],
    name: Annotated[str, typer.Option(help="Name of the proxy.")],
    steps: Annotated[int | None, typer.Option(help="Most optimiser steps.")] = None,
) -> None:
    """Make a proxy from an open-weights target here, on public text, and register it."""
    from client import config
    from transfer import models
    from transfer.distillation import DistilSettings
    from transfer.distillation import distil as distil_proxy
    from transfer.names import checked
    from transfer.proxy import spread
    from transfer.texts import read_texts

    session = of(context)
    place = config.read(session.directory).proxies_directory / checked("proxy", name)
    _require_free(place)
    settings = DistilSettings() if steps is None else DistilSettings(steps=steps)
    texts, large = read_texts(text), models.load(target)
    kept = spread(layers, large.model.config.num_hidden_layers)
    console.log_to_stderr("info")
    with console.progress(f"distilling {name}") as show:
        made = distil_proxy(large, kept, texts, settings, lambda step, _kl: show(step, settings.steps))
    place.parent.mkdir(mode=0o700, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=place.parent))
    try:
        saved = made.save(draft)
        draft.rename(place)  # whole or not there
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    found = {
        "name": name,
        "digest": saved.model.ref.digest,
        "layers": made.layers,
        "steps": made.steps,
        "held_out_kl": made.held_out_kl,
        "held_out_perplexity": made.held_out_perplexity,
        "target_perplexity": made.target_perplexity,
    }
    session.emit(found, _distilled)


def _distilled(found: dict[str, Any]) -> str:
    return (
        f"proxy {found['name']} {found['digest']}: layers {list(found['layers'])}, {found['steps']} steps, "
        f"held-out KL {found['held_out_kl']:.3f}, perplexity {found['held_out_perplexity']:.1f} "
        f"(target {found['target_perplexity']:.1f})"
    )


def _require_free(place: Path) -> None:
    if place.exists():
        raise AlreadyExistsError(f"{place} exists already: remove it, or choose another name")
