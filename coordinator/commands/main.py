"""The `promptferry-coordinator` command: serve, launch rounds and publish prompts as the model owner.

Each command imports PyTorch, Flower and the database only if it needs them, so help and usage errors appear at
once.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from coordinator.commands import client as cli_client
from coordinator.commands import prompt as cli_prompt
from coordinator.commands import proxy as cli_proxy
from coordinator.commands import round as cli_round
from coordinator.commands.preview import preview
from coordinator.commands.session import Session, of
from transfer import hints
from transfer.errors import UsageError
from transfer.placement.settings import HERE, Placement
from transfer.terminal import console, distil_options
from transfer.terminal.console import DirectoryOption, Format, FormatOption
from transfer.terminal.doctor import report
from transfer.terminal.hub import Download, download
from transfer.terminal.placement_options import Placed, spelled_out

app = console.application("Adapt a large language model to text that stays with its owners.")
cli_proxy.app.command("preview")(preview)
app.add_typer(cli_proxy.app, name="proxy")
app.add_typer(cli_client.app, name="client")
app.add_typer(cli_round.app, name="round")
app.add_typer(cli_prompt.app, name="prompt")


def main() -> None:
    """Entry point of `promptferry-coordinator`."""
    console.run(app)


@app.callback()
def _options(
    context: typer.Context, directory: DirectoryOption = Path(), form: FormatOption = Format.TEXT
) -> None:
    context.obj = Session(directory, form)


@app.command()
def init(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="New coordinator directory.")],
    target: Annotated[str, typer.Option(help="Target: directory, or name in the local Hugging Face cache.")],
    name: Annotated[str, typer.Option(help="Name of the target in published statements.")] = "",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    public_host: Annotated[str, typer.Option(help="Host name for clients, if it differs.")] = "",
    port: Annotated[int, typer.Option(help="Port of delivery and enrolment; 0 means any free port.")] = 9292,
    fleet_port: Annotated[int, typer.Option(help="Port of rounds (Flower); 0 means any free port.")] = 9191,
    threads: Annotated[int, typer.Option(help="CPU threads for the transfer; 0 means PyTorch's choice.")] = 0,
    fetched: Download = False,
) -> None:
    """Make a coordinator directory: coordinator.toml, certificates, publisher key and an empty store."""
    from coordinator.home import directory as coordinator_directory
    from transfer.families.model_directory import directory_of
    from transfer.files.toml import at_home

    path = at_home(Path(target))
    source = str(path.resolve()) if path.exists() else target
    coordinator_directory.free(directory)  # before the slow self-check of the target
    values: dict[tuple[str, str], object] = {
        ("target", "source"): source,
        ("target", "name"): name,
        ("delivery", "host"): host,
        ("delivery", "port"): port,
        ("flower", "host"): host,
        ("flower", "port"): fleet_port,
        ("serve", "threads"): threads,
    }
    if public_host:
        values |= {("delivery", "public_address"): f"{public_host}:{port}"}
        values |= {("flower", "public_address"): f"{public_host}:{fleet_port}"}
    hosts = [item for item in (host, public_host) if item and item not in ("0.0.0.0", "::")]  # noqa: S104
    if fetched:
        download(target)
    directory_of(source)
    with console.doing(f"trying {source}"):
        from transfer.models.self_check import require_sound_at

        require_sound_at(source)
    coordinator_directory.make(directory, values, hosts)
    summary = {"directory": directory, "target": source, "publisher_key": directory / "publisher.pub"}
    of(context).emit(
        summary,
        lambda _: f"made {directory}: next {hints.coordinator('serve', directory)}",
    )


@app.command()
def serve(context: typer.Context) -> None:
    """Serve clients and recipients, and run launched campaigns, until you stop it."""
    session = of(context)
    config = session.config()
    console.log_to_stderr(config.serve.log_level)
    from coordinator.home import renewal as expiry
    from coordinator.home.identity import pki_paths

    expiry.warn(pki_paths(config))  # before the slow import of the serving process
    with console.doing("starting"):
        from coordinator.commands import serve as serving

    def ready(addresses: serving.Addresses) -> None:
        session.emit(addresses, lambda shown: f"serving: delivery {shown.delivery}, fleet {shown.fleet}")
        sys.stdout.flush()

    serving.serve(config, ready)


@app.command()
def renew(context: typer.Context) -> None:
    """Make a new server certificate under the same authority; no client has to enrol again."""
    from coordinator.home import renewal as expiry
    from coordinator.home.identity import pki_paths

    session = of(context)
    end = expiry.renew(pki_paths(session.config()))
    session.emit(
        {"valid_until": end},
        lambda _: f"valid until {end:%Y-%m-%d}: start {hints.coordinator('serve')} again to use it",
    )


@app.command()
@spelled_out("device", "dtype", "quantise", "checkpointing")
def doctor(
    context: typer.Context,
    target: Annotated[
        str, typer.Option(help="Size this target instead: a directory, which needs no weights, or a name.")
    ] = "",
    layers: Annotated[
        str,
        typer.Option(help="Layers of its proxy: a number, or 0,3,5.", show_default="a quarter of its layers"),
    ] = "",
    *,
    placed: Placed,
) -> None:
    """Check settings, keys, certificate, target, store, proxies, and whether a coordinator serves.

    With --target, tell what a distillation, a transfer and a client need of it, by its configuration alone.
    """
    session = of(context)
    placement = placed.over()
    wanted = distil_options.parse_layers(layers) if layers else None
    if not target and (wanted is not None or placement != HERE):
        raise UsageError("--layers and placement size a target: name it by --target")
    if target:
        _size(session, target, wanted, placement)
        return
    with console.doing("loading PyTorch"):
        from coordinator.commands import doctor as checkup
    report(session, checkup.examine(session.directory))


def _size(session: Session, target: str, layers: int | tuple[int, ...] | None, placement: Placement) -> None:
    from transfer.families.model_directory import directory_of

    directory_of(target)  # before the slow import of PyTorch
    with console.doing(f"sizing {target}"):
        from coordinator.publication.sizing import of_target
        from transfer.terminal import needs

        sizes = needs.values(of_target(target, layers, placement))
    session.emit(sizes, needs.table)
