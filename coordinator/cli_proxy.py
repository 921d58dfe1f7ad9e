"""`promptferry-coordinator proxy distil | list | show`: what clients tune on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from coordinator.session import of
from transfer import console
from transfer.errors import UsageError

if TYPE_CHECKING:
    from coordinator.records import ProxyRecord
    from transfer.proxy import Proxy

app = console.application("Proxies: small cuts of the target that data owners tune prompts on.")


@app.command("distil")
def distil(
    context: typer.Context,
    layers: Annotated[str, typer.Option(help="How many layers to keep (first and last), or which: 0,1,11.")],
    text: Annotated[Path, typer.Option(help="Public text, .jsonl or .txt.")],
    name: Annotated[str, typer.Option(help="Name of the proxy, [a-z0-9-].")],
    steps: Annotated[int | None, typer.Option(min=0, help="Most optimiser steps; 0 only cuts.")] = None,
    target: Annotated[str, typer.Option(help="Another target than the configured one.")] = "",
) -> None:
    """Make a proxy from the target on public text, sign it and offer it to clients."""
    from coordinator import proxies
    from coordinator.config import chosen
    from coordinator.serving import identity
    from transfer.distillation import DistilSettings
    from transfer.models import load
    from transfer.texts import read_texts

    session = of(context)
    config = session.config()
    console.log_to_stderr(config.serve.log_level)
    settings = DistilSettings() if steps is None else DistilSettings(steps=steps)
    wanted, ours, source = parse_layers(layers), identity(config), chosen(target, config.target)
    with session.store() as store:
        place = proxies.free_place(store, config.proxies.directory, name)
        texts, large = read_texts(text), load(source.source, name=source.name or None)
        with console.progress(f"distilling {name}") as show:
            proxies.make(large, wanted, texts, settings, place, show)
        made = proxies.register(store, ours, place)
    found = {
        "name": name,
        "digest": made.model.ref.digest,
        "layers": made.layers,
        "steps": made.steps,
        "held_out_kl": made.held_out_kl,
        "held_out_perplexity": made.held_out_perplexity,
        "target_perplexity": made.target_perplexity,
    }
    session.emit(found, lambda _: _made(made))


@app.command("register")
def register(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Proxy directory that `proxy distil` made elsewhere.")],
    name: Annotated[str, typer.Option(help="Name of the proxy, [a-z0-9-].")],
) -> None:
    """Copy a proxy made earlier or on another machine, sign it and offer it to clients."""
    from coordinator import proxies
    from coordinator.serving import identity

    session = of(context)
    config = session.config()
    with session.store() as store:
        place = proxies.free_place(store, config.proxies.directory, name)
        proxies.copy(directory, place)
        made = proxies.register(store, identity(config), place)
    session.emit(
        {"name": name, "digest": made.model.ref.digest, "layers": made.layers}, lambda _: _made(made)
    )


def parse_layers(text: str) -> int | tuple[int, ...]:
    """Read --layers: 3 is a number of layers, 0,5 are indices.

    Raises:
        UsageError: neither.
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"--layers {text!r} is neither a number of layers nor indices such as 0,1,11")
    return int(text) if len(parts) == 1 else tuple(int(part) for part in parts)


def _made(proxy: "Proxy") -> str:
    return (
        f"proxy {proxy.model.ref.name} {proxy.model.ref.digest}: layers {list(proxy.layers)}, "
        f"{proxy.steps} steps, held-out KL {proxy.held_out_kl:.3f}, "
        f"perplexity {proxy.held_out_perplexity:.1f} (target {proxy.target_perplexity:.1f})"
    )


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the proxies on offer."""
    session = of(context)
    with session.store() as store:
        proxies = store.proxies()
    session.emit([_told(proxy) for proxy in proxies], _listed)


@app.command("show")
def show(context: typer.Context, name: Annotated[str, typer.Argument(help="Name of the proxy.")]) -> None:
    """Show one proxy: digests, layers and files."""
    session = of(context)
    with session.store() as store:
        proxy = store.proxy(name)
    session.emit(_told(proxy), _shown)


def _told(proxy: "ProxyRecord") -> dict[str, Any]:
    return {
        "name": proxy.name,
        "digest": proxy.model.digest,
        "parent": proxy.parent.name,
        "parent_digest": proxy.parent.digest,
        "layers": proxy.layers,
        "created": proxy.create_time,
        "directory": proxy.directory,
        "files": proxy.files,
    }


def _listed(proxies: list[dict[str, Any]]) -> Table:
    table = Table("proxy", "digest", "target", "layers", "made")
    for item in proxies:
        layers = ", ".join(map(str, item["layers"]))
        table.add_row(
            item["name"], item["digest"][:16], item["parent"], layers, f"{item['created']:%Y-%m-%d %H:%M}"
        )
    return table


def _shown(proxy: dict[str, Any]) -> Table:
    table = Table("file", "bytes", "SHA-256", title=f"{proxy['name']} {proxy['digest']}")
    for file in proxy["files"]:
        table.add_row(file.path, str(file.size), file.digest[:16])
    parent = f"{proxy['parent']} {proxy['parent_digest'][:16]}"
    table.caption = f"layers {list(proxy['layers'])} of {parent}, in {proxy['directory']}"
    return table
