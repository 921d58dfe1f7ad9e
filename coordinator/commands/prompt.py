"""`promptferry-coordinator prompt …`: the versions recipients may fetch, and transfers to another target."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table

from coordinator.commands.session import Session, of
from transfer.placement.settings import makeable
from transfer.terminal import console
from transfer.terminal.console import line
from transfer.terminal.hub import Download, download

if TYPE_CHECKING:
    from coordinator.store.records import PromptVersion
    from transfer.protocol.prompt_statement import PromptStatement

app = console.application("Published prompts and their versions.")
NameArgument = Annotated[str, typer.Argument(help="Name of the prompt.")]
VersionArgument = Annotated[int, typer.Argument(help="Version.", min=1)]


@app.command("list")
def list_(
    context: typer.Context, name: Annotated[str | None, typer.Argument(help="Only this prompt.")] = None
) -> None:
    """List every version, newest first, including revoked ones."""
    session = of(context)
    with session.store() as store:
        versions = store.prompt_versions(name)
    session.emit([_brief(version) for version in versions], _listed)


def _brief(version: "PromptVersion") -> dict[str, Any]:
    return {
        "name": version.name,
        "prompt": version.prompt,
        "version": version.version,
        "state": version.state,
        "created": version.create_time,
    }


def _listed(versions: list[dict[str, Any]]) -> Table:
    table = Table("prompt", "version", "state", "published")
    for item in versions:
        table.add_row(
            item["prompt"], str(item["version"]), item["state"], f"{item['created']:%Y-%m-%d %H:%M}"
        )
    return table


@app.command("show")
def show(
    context: typer.Context,
    name: NameArgument,
    version: Annotated[int | None, typer.Option(min=1, help="Version.", show_default="the latest")] = None,
) -> None:
    """Show the signed statement of a version."""
    from coordinator.home.identity import identity

    session = of(context)
    with session.store() as store:
        record = store.prompt_version(name, version)
    with console.doing("loading PyTorch"):
        from coordinator.publication.publish import verified_predicate
        from transfer.protocol.prompt_statement import PromptStatement
    predicate = verified_predicate(record, identity(session.config()))
    statement = PromptStatement.from_predicate(predicate)
    session.emit({**_brief(record), "statement": predicate}, lambda brief: _shown(brief, statement))


def _shown(brief: dict[str, Any], statement: "PromptStatement") -> Group:
    privacy, target = statement.privacy, statement.target
    table = Table("client", "rounds", "ε", "lifetime ε")
    for client in privacy.clients:
        spent = f"{client.epsilon:.4g}", f"{client.lifetime_epsilon:.4g}"
        table.add_row(client.client, str(client.rounds), *spent)
    origin = f"for {target.name} {target.digest[:16]}, from campaign {statement.campaign}"
    cost = f"ε {privacy.epsilon:.4g} at δ {privacy.delta:g} for one {privacy.unit}"
    unit = f"{cost} ({privacy.adjacency}), worst client, over all campaigns behind it; {privacy.accountant}"
    if learnt := statement.lineage.start.learnt_from:
        origin += f", begun with what {', '.join(item.prompt for item in learnt)} taught"
    twins = [line(f"in {twin.numbers} {twin.told}") for twin in statement.lineage.twins]
    measured = statement.lineage.wording
    found = measured.summary if measured else {}
    if scan := statement.lineage.triggers:
        found = {**found, "trigger scan": scan.summary}
    wording = [line(f"{name}: {text}") for name, text in found.items()]
    return Group(
        line(f"{brief['name']}: {brief['state']}"), table, line(origin), line(unit), *twins, *wording
    )


@app.command("transfer")
def transfer(
    context: typer.Context,
    campaign: Annotated[str, typer.Argument(help="Campaign whose rounds are all closed.")],
    target: Annotated[
        str,
        typer.Option(
            help="Target: directory, or name in the local Hugging Face cache.",
            show_default="the configured one",
        ),
    ] = "",
    name: Annotated[str, typer.Option(help="Publish under this name.", show_default="the plan's")] = "",
    public_text: Annotated[Path | None, typer.Option(help="Public text in place of the plan's.")] = None,
    library: Annotated[
        str,
        typer.Option(
            help="Learn from the best published prompt, from none, or from this one.",
            metavar="auto|none|NAME",
            show_default="auto if the task has label words",
        ),
    ] = "",
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Publish even if the prompt beats not all of its baselines.")
    ] = False,
    twin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="int8|nf4",
            help="Tell how its answers change on this quantised twin of the target; repeatable.",
            show_default="the plan's",
        ),
    ] = None,
    fetched: Download = False,
) -> None:
    """Transfer a campaign's prompt to another target, at no further privacy cost, and publish it.

    Published prompts of other tasks may help; a table on stderr shows which one helped, or why none did.
    """
    from coordinator.home.settings import chosen
    from transfer.families.model_directory import directory_of
    from transfer.files.public_text import PublicText

    session = of(context)
    config = session.config()
    console.log_to_stderr(config.serve.log_level)
    twins = makeable(twin or ())
    with session.store() as store:
        store.campaign(campaign)
    if public_text is not None:
        PublicText.of(public_text)
    if fetched:
        download(target or config.target.source)
    if target:
        directory_of(chosen(target, config.target).source)
    with console.doing("loading PyTorch"):  # slow, so every check above comes first
        from coordinator.commands import library_table
        from coordinator.home.identity import identity
        from coordinator.publication.publish import transfer_and_publish
        from coordinator.rounds.plan import AUTO, NO_LIBRARY, CampaignPlan
    with session.store() as store:
        plan = CampaignPlan.from_json(store.campaign(campaign).plan)
        mode = library or (AUTO if plan.task.has_words else NO_LIBRARY)
        changes: dict[str, Any] = {"library": mode} | ({"target": target} if target else {})
        if public_text is not None:
            changes["public_text"] = str(public_text.resolve())
        published = replace(
            plan.publish,
            prompt=name or plan.publish.prompt,
            require_improvement=plan.publish.require_improvement and not anyway,
            twins=twins or plan.publish.twins,
        )
        plan = replace(plan, publish=published, **changes)
        with console.progress(f"transferring {campaign}") as show_step:
            version, result = transfer_and_publish(store, identity(config), plan, config.target, show_step)
    values = {**_brief(version), "held_out_loss": dict(result.losses), "twins": result.twins}
    values |= {"wording": result.wording, "triggers": result.triggers}
    if result.choice:
        library_table.explain(result.choice, Console(stderr=True))
        values["library"] = library_table.values(result.choice)
    session.emit(values, lambda _: f"published {version.name}: held-out public loss: {result.summary}")


@app.command("publish")
def publish(context: typer.Context, name: NameArgument, version: VersionArgument) -> None:
    """Offer a revoked version again."""
    _set(of(context), name, version, "published")


@app.command("revoke")
def revoke(context: typer.Context, name: NameArgument, version: VersionArgument) -> None:
    """Withdraw a version: recipients get the same answer as for a version that never existed."""
    _set(of(context), name, version, "revoked")


@app.command("rollback")
def rollback(
    context: typer.Context,
    name: NameArgument,
    to: Annotated[int, typer.Option("--to", min=1, help="Version to go back to.")],
) -> None:
    """Publish an earlier version again as the newest, and revoke the versions in between."""
    from coordinator.home.identity import identity

    session = of(context)
    with session.store() as store:
        store.prompt_version(name, to)
        with console.doing("loading PyTorch"):
            from coordinator.publication.publish import republish
        version = republish(store, identity(session.config()), name, to)
    session.emit(_brief(version), lambda _: f"published {version.name} with the content of version {to}")


def _set(session: Session, name: str, version: int, state: Any) -> None:
    with session.store() as store:
        store.set_prompt_state(name, version, state)
        record = store.prompt_version(name, version)
    session.emit(_brief(record), lambda values: f"{values['name']} is {values['state']}")
