"""`promptferry-client proxy fetch | distil | list`: the models that a client tunes on."""

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from transfer.distillation.settings import DistilSettings
from transfer.errors import AlreadyExistsError, ModelError
from transfer.terminal import console, distil_options
from transfer.terminal.distil_options import DEFAULTS, FROZEN, parse_freeze, parse_layers
from transfer.terminal.hub import Download, download
from transfer.terminal.placement_options import Placed, spelled_out
from transfer.terminal.session import of

app = console.application("The proxies in this client's directory.")


@app.command("list")
def list_(context: typer.Context) -> None:
    """List this client's proxies, with the digests that a policy names and their measurements."""
    from client.home import settings as config

    session = of(context)
    settings = config.read(session.directory)
    with console.doing("reading the proxies"):
        from client.rounds.proxies import Proxies

        rows = [_row(path) for path in Proxies(settings.proxies_directory).directories()]
    session.emit(rows, _listed)


def _row(place: Path) -> dict[str, Any]:
    """Name and digest of a proxy; with a record of its making also parent, layers, steps and measurements."""
    from transfer.distillation.proxy import RECORD_FILE, read_record
    from transfer.model_ref import ModelRef

    row = {"name": place.name, "digest": ModelRef.of_directory(place.name, place).digest}
    if (place / RECORD_FILE).exists():
        record = read_record(place)
        parent = record.pop("parent")
        row |= {"parent": parent.name, "parent_digest": parent.digest, **record}
    return row


def _listed(proxies: list[dict[str, Any]]) -> Table:
    table = Table("proxy", "digest", "made of")
    for item in proxies:
        origin = f"{item['parent']}: {distil_options.summary(item)}" if "parent" in item else ""
        table.add_row(item["name"], item["digest"], origin)
    return table


@app.command("fetch")
def fetch(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Name at the coordinator.")]
) -> None:
    """Fetch a proxy from the enrolled coordinator and check its signature and digests."""
    from client.home import enrolment
    from client.home import settings as config
    from transfer.model_ref import ModelRef
    from transfer.names import checked

    session = of(context)
    settings = config.read(session.directory)
    place = settings.proxies_directory / checked("proxy", name)
    _require_free(place)
    place.parent.mkdir(mode=0o700, exist_ok=True)
    with console.doing(f"fetching {name}"):
        enrolment.read(settings).fetch(name, place)
    try:
        with console.doing(f"checking {name}"):
            from transfer.models.self_check import require_sound_at

            require_sound_at(place, settings.placement)
    except ModelError:
        shutil.rmtree(place)
        raise
    session.emit(ModelRef.of_directory(name, place), lambda ref: f"fetched {ref.name} {ref.digest}")


@app.command("distil")
@distil_options.together()
@spelled_out()
def distil(
    context: typer.Context,
    target: Annotated[str, typer.Option(help="Target: directory, or name in the local Hugging Face cache.")],
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
    *,
    placed: Placed,
    fetched: Download = False,
) -> None:
    """Make a proxy from an open-weights target on this machine, on public text, and register it."""
    from client.home import settings as config
    from transfer.families.model_directory import directory_of
    from transfer.files.public_text import PublicText

    distil_options.require(text, name, dry_run=dry_run)
    distil_options.require_several(shard=shard)
    session = of(context)
    place = config.read(session.directory).proxies_directory / name
    if not dry_run:
        _require_free(place)
    settings = DistilSettings(
        steps=steps,
        freeze=parse_freeze(freeze),
        precision=precision,
        accumulate=accumulate,
        kl_at=kl_at,
        prompted_share=prompted_share,
    )
    wanted = parse_layers(layers)
    placement = placed.over()
    placement.require_whole()
    console.log_to_stderr("info")
    if fetched:
        download(target)
    directory_of(target)  # before the slow import of PyTorch
    if dry_run or text is None:
        with console.doing("loading PyTorch"):
            from transfer.terminal import dry_run as forecast
        forecast.tell(session, target, wanted, text, placement, settings)
        return
    with console.doing(f"reading {text}"):
        texts = PublicText.of(text)
    with console.doing(f"loading {target}"):
        from transfer.distillation.distil import make
        from transfer.distillation.processes import Processes
        from transfer.models.loading import load

        large = load(target, placement=placement)
    place.parent.mkdir(mode=0o700, exist_ok=True)
    with distil_options.resumable(place), console.progress(f"distilling {name}") as show:
        processes = Processes.here(divide=shard)
        proxy = make(large, wanted, texts, settings, place, resume=resume, on_step=show, processes=processes)
    session.emit({"name": name, "digest": proxy.model.ref.digest, **proxy.measured}, distil_options.headline)


def _require_free(place: Path) -> None:
    if place.exists():
        raise AlreadyExistsError(f"{place} exists already: remove it, or choose another name")
