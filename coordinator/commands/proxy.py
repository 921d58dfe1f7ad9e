"""`promptferry-coordinator proxy distil | register | list | show`: the models that clients tune on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.table import Table

from coordinator.commands.session import of
from transfer.distillation.settings import DistilSettings
from transfer.errors import AlreadyExistsError
from transfer.names import checked
from transfer.terminal import console, distil_options
from transfer.terminal.console import line
from transfer.terminal.distil_options import DEFAULTS, FROZEN, parse_freeze, parse_layers
from transfer.terminal.hub import Download, download
from transfer.terminal.placement_options import Placed, spelled_out

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from coordinator.store.records import ProxyRecord
    from coordinator.store.store import Store

app = console.application("Proxies: small cuts of the target that data owners tune prompts on.")


@app.command("distil")
@distil_options.together()
@spelled_out()
def distil(
    context: typer.Context,
    layers: distil_options.Layers,
    text: distil_options.Text = None,
    name: distil_options.Name = "",
    steps: distil_options.Steps = DEFAULTS.steps,
    freeze: distil_options.Freeze = FROZEN,
    precision: distil_options.Arithmetic = DEFAULTS.precision,
    accumulate: distil_options.Accumulate = DEFAULTS.accumulate,
    kl_at: distil_options.KlAt = DEFAULTS.kl_at,
    prompted_share: distil_options.PromptedShare = DEFAULTS.prompted_share,
    shard: distil_options.Shard = False,
    resume: distil_options.Resume = False,
    dry_run: distil_options.DryRun = False,
    target: Annotated[
        str,
        typer.Option(
            help="Target: directory, or name in the local Hugging Face cache.",
            show_default="the configured one",
        ),
    ] = "",
    *,
    placed: Placed,
    fetched: Download = False,
) -> None:
    """Make a proxy from the target on public text, sign it and offer it to clients."""
    from coordinator.home.identity import identity
    from coordinator.home.settings import chosen
    from transfer.families.model_directory import directory_of
    from transfer.files.public_text import PublicText

    distil_options.require(text, name, dry_run=dry_run)
    distil_options.require_several(shard=shard)
    session = of(context)
    config = session.config()
    console.log_to_stderr(config.serve.log_level)
    settings = DistilSettings(
        steps=steps,
        freeze=parse_freeze(freeze),
        precision=precision,
        accumulate=accumulate,
        kl_at=kl_at,
        prompted_share=prompted_share,
    )
    wanted, source = parse_layers(layers), chosen(target, config.target)
    placement = placed.over(source.placement)
    placement.require_whole()
    source = source.model_copy(update={"placement": placement})
    if fetched:
        download(source.source)
    if dry_run or text is None:
        directory_of(source.source)  # before the slow import of PyTorch
        with console.doing("loading PyTorch"):
            from transfer.terminal import dry_run as forecast
        forecast.tell(session, source.source, wanted, text, placement, settings)
        return
    ours = identity(config)
    with session.store() as store:
        place = _free_place(store, config.proxies.directory, name)
        directory_of(source.source)
        with console.doing(f"reading {text}"):
            texts = PublicText.of(text)
        with console.doing("loading PyTorch"):
            from coordinator.publication import proxies
            from coordinator.publication.transfer import load_target
            from transfer.distillation.distil import make
            from transfer.distillation.processes import Processes
        with console.doing(f"loading {source.source}"):
            large = load_target(source)
        with distil_options.resumable(place), console.progress(f"distilling {name}") as show:
            processes = Processes.here(divide=shard)
            make(large, wanted, texts, settings, place, resume=resume, on_step=show, processes=processes)
        if not processes.first:
            return
        proxy = proxies.register(store, ours, place)
    session.emit({"name": name, "digest": proxy.model.ref.digest, **proxy.measured}, distil_options.headline)


@app.command("register")
def register(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Proxy directory that `proxy distil` made.")],
    name: Annotated[str, typer.Option(help="Name of the proxy, [a-z0-9-].")],
) -> None:
    """Copy an earlier proxy, or one from another machine, sign it and offer it to clients."""
    from coordinator.home.identity import identity
    from transfer.families.model_directory import directory_of

    checked("proxy", name)
    session = of(context)
    config = session.config()
    with console.doing(f"checking and copying {directory}"), session.store() as store:
        place = _free_place(store, config.proxies.directory, name)
        directory_of(directory)
        from coordinator.publication import proxies

        proxies.copy(directory, place)
        proxy = proxies.register(store, identity(config), place)
    session.emit({"name": name, "digest": proxy.model.ref.digest, **proxy.measured}, distil_options.headline)


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the registered proxies with their measurements on held-out public text."""
    from coordinator.home.identity import identity

    session = of(context)
    key = identity(session.config()).publisher.public_key()
    with session.store() as store:
        proxies = store.proxies()
    session.emit([_values(proxy, key) for proxy in proxies], _listed)


@app.command("show")
def show(context: typer.Context, name: Annotated[str, typer.Argument(help="Name of the proxy.")]) -> None:
    """Show one proxy: digests, layers and files."""
    from coordinator.home.identity import identity

    session = of(context)
    key = identity(session.config()).publisher.public_key()
    with session.store() as store:
        proxy = store.proxy(name)
    session.emit(_values(proxy, key), _shown)


def _free_place(store: "Store", directory: Path, name: str) -> Path:
    """Return the directory for a new proxy of that name; refuse a name in use."""
    place = directory / name
    if place.exists() or any(record.name == name for record in store.proxies()):
        raise AlreadyExistsError(f"proxy {name!r} exists already ({place}): choose another name")
    return place


def _values(proxy: "ProxyRecord", key: "Ed25519PublicKey") -> dict[str, Any]:
    """Return the record with the steps and held-out measurements of its signed statement."""
    from transfer.protocol.signing import PROXY_PREDICATE, Statement
    from transfer.protocol.statement import ProxyStatement

    signed = Statement.verified(proxy.statement, key, PROXY_PREDICATE)
    statement = ProxyStatement.from_predicate(signed.predicate)
    return {
        "name": proxy.name,
        "digest": proxy.model.digest,
        "parent": proxy.parent.name,
        "parent_digest": proxy.parent.digest,
        "layers": proxy.layers,
        "steps": statement.steps,
        "held_out_kl": statement.held_out_kl,
        "held_out_perplexity": statement.held_out_perplexity,
        "target_perplexity": statement.target_perplexity,
        "created": proxy.create_time,
        "directory": proxy.directory,
        "files": proxy.files,
    }


def _listed(proxies: list[dict[str, Any]]) -> Table:
    table = Table("proxy", "target", "layers", "steps", "KL", "perplexity", "target's")
    for item in proxies:
        table.add_row(
            item["name"],
            item["parent"],
            ",".join(map(str, item["layers"])),
            str(item["steps"]),
            f"{item['held_out_kl']:.3f}",
            distil_options.shown(item["held_out_perplexity"]),
            distil_options.shown(item["target_perplexity"]),
        )
    return table


def _shown(proxy: dict[str, Any]) -> Group:
    table = Table("file", "bytes", "SHA-256")
    for file in proxy["files"]:
        table.add_row(file.path, str(file.size), file.digest[:16])
    parent = f"{proxy['parent']} {proxy['parent_digest'][:16]}"
    origin = f"of {parent}, in {proxy['directory']}"
    return Group(
        line(f"{proxy['name']} {proxy['digest']}"), table, line(distil_options.summary(proxy)), line(origin)
    )
