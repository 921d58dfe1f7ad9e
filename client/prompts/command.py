"""The `promptferry` command: find, fetch, verify and try published prompts.

Only the commands that need a model import what loads one; the others answer at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from transfer import names
from transfer.errors import UsageError
from transfer.files.text import NotTextError, decoded
from transfer.terminal import console
from transfer.terminal.console import Format, FormatOption
from transfer.terminal.hub import Download, download
from transfer.terminal.placement_options import Placed, spelled_out
from transfer.terminal.session import Session, of

if TYPE_CHECKING:
    from client.remote.coordinator import Remote
    from client.remote.offers import PromptOffer

app = console.application("Find, fetch, verify and try published prompts.")

Server = Annotated[str, typer.Option(envvar="PROMPTFERRY_SERVER", help="Coordinator, host:port.")]
Authority = Annotated[
    Path, typer.Option("--ca", envvar="PROMPTFERRY_CA", help="The coordinator's CA certificate, ca.pem.")
]
Key = Annotated[
    Path, typer.Option(envvar="PROMPTFERRY_KEY", help="The publisher's public key, publisher.pub.")
]
Name = Annotated[str, typer.Argument(help="Name of a prompt.")]
Directory = Annotated[Path, typer.Argument(help="Directory of a fetched prompt.")]
Version = Annotated[int | None, typer.Option(min=1, help="This version instead of the latest.")]
MaxEpsilon = Annotated[float | None, typer.Option(min=0, help="Refuse the prompt if a client's ε is larger.")]
MaxDelta = Annotated[float | None, typer.Option(min=0, help="Refuse the prompt if a client's δ is larger.")]
EveryVersion = Annotated[bool, typer.Option("--all", help="List every version.")]
State = Annotated[
    Path | None,
    typer.Option(
        help="File that records the versions seen.", show_default="XDG_STATE_HOME/promptferry/versions.json"
    ),
]


def main() -> None:
    """Entry point of `promptferry`."""
    console.run(app)


@app.callback()
def _options(context: typer.Context, form: FormatOption = Format.TEXT) -> None:
    context.obj = Session(Path(), form)


@app.command("list")
def list_prompts(
    context: typer.Context, server: Server, ca: Authority, key: Key, every: EveryVersion = False
) -> None:
    """List the latest version of each published prompt."""
    from client.prompts import sheet as prompt_sheet
    from client.remote import publisher_key

    publisher = publisher_key.load(key)
    with _remote(server, ca) as remote:
        newest: dict[str, PromptOffer] = {}
        for offer in remote.prompt_versions():
            newest.setdefault(offer.name if every else offer.prompt, offer)
    of(context).emit([prompt_sheet.row(offer, publisher) for offer in newest.values()], prompt_sheet.table)


@app.command()
def show(
    context: typer.Context, name: Name, server: Server, ca: Authority, key: Key, version: Version = None
) -> None:
    """Show a prompt's signed statement; use --format json for all of it."""
    from client.prompts import sheet as prompt_sheet
    from client.prompts.claim import Claim
    from client.remote import publisher_key
    from transfer.protocol.signing import PROMPT_PREDICATE, Statement

    publisher = publisher_key.load(key)
    with _remote(server, ca) as remote:
        offer = remote.prompt_version(name, version)
    statement = Statement.verified(offer.statement, publisher, PROMPT_PREDICATE)
    claim = Claim.of(statement)
    claim.require(name, offer.version)
    described = {**prompt_sheet.described(claim), "statement": statement.predicate}
    of(context).emit(described, lambda shown: prompt_sheet.sheet(shown, claim.statement))


@app.command()
def fetch(
    context: typer.Context,
    name: Name,
    server: Server,
    ca: Authority,
    key: Key,
    out: Annotated[Path, typer.Option(help="Directory to make.")],
    version: Version = None,
    max_epsilon: MaxEpsilon = None,
    max_delta: MaxDelta = None,
    state: State = None,
) -> None:
    """Download a prompt as a PEFT directory, which appears only after it is verified."""
    from client.prompts import sheet as prompt_sheet
    from client.prompts.rollback import SeenVersions
    from client.remote import publisher_key
    from transfer.protocol.signing import key_id

    names.checked("prompt", name)
    publisher = publisher_key.load(key)
    with console.doing("loading PyTorch"):
        from client.prompts.fetch import Trust, Wanted
        from client.prompts.fetch import fetch as fetch_prompt
    trust = Trust(publisher, SeenVersions(state or SeenVersions.default_path()))
    seen = trust.seen.highest(key_id(trust.key), name)
    if version is not None and seen is not None and version < seen:
        console.say(f"warning: version {version} of {name!r} is older than version {seen}, seen before")
    with _remote(server, ca) as remote, console.progress(f"fetching {name}") as on_bytes:
        claim = fetch_prompt(remote, Wanted(name, version, max_epsilon, max_delta), trust, out, on_bytes)
    of(context).emit({**prompt_sheet.described(claim), "directory": str(out)}, prompt_sheet.sheet)


@app.command()
def verify(
    context: typer.Context,
    directory: Directory,
    key: Key,
    max_epsilon: MaxEpsilon = None,
    max_delta: MaxDelta = None,
) -> None:
    """Verify a fetched directory again, offline: signature, files and privacy."""
    from client.prompts import sheet as prompt_sheet
    from client.remote import publisher_key

    publisher = publisher_key.load(key)
    with console.doing(f"checking {directory}"):
        from client.prompts import directory as artifact

        claim = artifact.verified(directory, publisher)
    claim.privacy.require(max_epsilon, max_delta)
    of(context).emit({**prompt_sheet.described(claim), "directory": str(directory)}, prompt_sheet.sheet)


@app.command("try")
@spelled_out()
def try_prompt(
    context: typer.Context,
    directory: Directory,
    model: Annotated[
        str, typer.Option(help="The target: directory, or name in the local Hugging Face cache.")
    ],
    text: Annotated[list[str], typer.Option(help="Text to answer; repeatable.")],
    key: Key,
    *,
    placed: Placed,
    fetched: Download = False,
) -> None:
    """Answer texts with a verified prompt on its target, using stock PEFT."""
    from client.prompts import sheet as prompt_sheet
    from client.remote import publisher_key
    from transfer.families.model_directory import directory_of

    publisher = publisher_key.load(key)
    placement = placed.over()
    if fetched:
        download(model)
    directory_of(model)
    with console.doing(f"checking {directory}"):
        from client.prompts import directory as artifact

        claim = artifact.verified(directory, publisher)
    with console.doing(f"loading {model}"):
        from client.prompts import trial
        from transfer.models import loading as models
        from transfer.placement.devices import numbers_of

        target = models.load(model, lm_head=claim.lm_head, placement=placement)
    if note := prompt_sheet.twin_note(claim.statement, numbers_of(target.model)):
        console.say(note)
    answers: list[dict[str, Any]]
    with console.doing("answering"):
        if claim.task.kind == "text":
            answers = [{"answer": answer} for answer in trial.answers(directory, claim, target, text)]
        else:
            chances = trial.probabilities(directory, claim, target, text)
            name = "labels" if claim.task.many else "label"
            answers = [{name: trial.answered(claim.task, each), "probabilities": each} for each in chances]
    results = [{"text": line, **each} for line, each in zip(text, answers, strict=True)]
    of(context).emit(
        {"name": claim.prompt, "version": claim.version, "results": results}, prompt_sheet.answers
    )


def _remote(server: str, ca: Path) -> "Remote":
    from client.remote.coordinator import Remote

    try:
        authority = decoded(ca.read_bytes()).encode()
    except OSError as error:
        raise UsageError(f"{ca}: cannot read the CA: {error.strerror}") from error
    except NotTextError as error:
        raise UsageError(error.of(ca)) from error
    return Remote(server, authority)


if __name__ == "__main__":
    main()
