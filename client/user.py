"""The `promptferry` command: find, fetch, verify and try published prompts.

What needs a model is imported by the command that needs it: the others answer at once.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from rich.table import Table

from client import publisher_key
from client.claim import Claim
from client.offers import PromptOffer
from client.remote import Remote
from client.versions import SeenVersions
from transfer import console, names
from transfer.console import Format, FormatOption
from transfer.errors import UsageError, VerificationError
from transfer.signing import PROMPT_PREDICATE, Statement, key_id
from transfer.text_file import NotTextError, decoded

app = console.application("Find, fetch, verify and try published prompts.")

Server = Annotated[str, typer.Option(envvar="PROMPTFERRY_SERVER", help="Coordinator, host:port.")]
Authority = Annotated[Path, typer.Option("--ca", envvar="PROMPTFERRY_CA", help="Its authority, ca.pem.")]
Key = Annotated[Path, typer.Option(envvar="PROMPTFERRY_KEY", help="Its publisher's key, publisher.pub.")]
Name = Annotated[str, typer.Argument(help="Name of a prompt.")]
Directory = Annotated[Path, typer.Argument(help="Directory of a fetched prompt.")]
Version = Annotated[int | None, typer.Option(min=1, help="A certain version instead of the latest.")]
MaxEpsilon = Annotated[float | None, typer.Option(min=0, help="Refuse if a client's ε is larger.")]
MaxDelta = Annotated[float | None, typer.Option(min=0, help="Refuse if a client's δ is larger.")]
EveryVersion = Annotated[bool, typer.Option("--all", help="Every version.")]
State = Annotated[
    Path | None,
    typer.Option(help="File of versions seen.", show_default="XDG_STATE_HOME/promptferry/versions.json"),
]


def main() -> None:
    """Entry point of `promptferry`."""
    console.run(app)


@app.command("list")
def list_prompts(
    server: Server, ca: Authority, key: Key, every: EveryVersion = False, form: FormatOption = Format.TEXT
) -> None:
    """Published prompts: the latest version of each."""
    publisher = publisher_key.load(key)
    with _remote(server, ca) as remote:
        newest: dict[str, PromptOffer] = {}
        for offer in remote.prompt_versions():
            newest.setdefault(offer.name if every else offer.prompt, offer)
    console.emit([_row(offer, publisher) for offer in newest.values()], form, _table)


@app.command()
def show(
    name: Name,
    server: Server,
    ca: Authority,
    key: Key,
    version: Version = None,
    form: FormatOption = Format.TEXT,
) -> None:
    """What a prompt's signed statement says."""
    publisher = publisher_key.load(key)
    with _remote(server, ca) as remote:
        offer = remote.prompt_version(name, version)
    statement = Statement.verified(offer.statement, publisher, PROMPT_PREDICATE)
    claim = Claim.of(statement)
    claim.require(name, offer.version)
    console.emit({**_described(claim), "statement": statement.predicate}, form, _sheet)


@app.command()
def fetch(
    name: Name,
    server: Server,
    ca: Authority,
    key: Key,
    out: Annotated[Path, typer.Option(help="Directory to make.")],
    version: Version = None,
    max_epsilon: MaxEpsilon = None,
    max_delta: MaxDelta = None,
    state: State = None,
    form: FormatOption = Format.TEXT,
) -> None:
    """Download a prompt as a PEFT directory, verified before it appears."""
    from client.fetching import Trust, Wanted
    from client.fetching import fetch as fetch_prompt

    names.checked("prompt", name)
    trust = Trust(publisher_key.load(key), SeenVersions(state or SeenVersions.default_path()))
    seen = trust.seen.highest(key_id(trust.key), name)
    if version is not None and seen is not None and version < seen:
        sys.stderr.write(f"warning: version {version} of {name!r} is older than {seen}, seen before\n")
    with _remote(server, ca) as remote, console.progress(f"fetching {name}") as on_bytes:
        claim = fetch_prompt(remote, Wanted(name, version, max_epsilon, max_delta), trust, out, on_bytes)
    console.emit({**_described(claim), "directory": str(out)}, form, _sheet)


@app.command()
def verify(
    directory: Directory,
    key: Key,
    max_epsilon: MaxEpsilon = None,
    max_delta: MaxDelta = None,
    form: FormatOption = Format.TEXT,
) -> None:
    """Check a fetched directory again, offline: signature, files and privacy."""
    from client import artifact

    claim = artifact.verified(directory, publisher_key.load(key))
    claim.privacy.require(max_epsilon, max_delta)
    console.emit({**_described(claim), "directory": str(directory)}, form, _sheet)


@app.command("try")
def try_prompt(
    directory: Directory,
    model: Annotated[str, typer.Option(help="The target: directory or hub name.")],
    text: Annotated[list[str], typer.Option(help="Text to answer; repeatable.")],
    key: Key,
    form: FormatOption = Format.TEXT,
) -> None:
    """Answer texts with a verified prompt on its target, through stock PEFT."""
    from transformers.utils.logging import disable_progress_bar

    from client import artifact, trial
    from transfer import models

    claim = artifact.verified(directory, publisher_key.load(key))
    disable_progress_bar()  # type: ignore[no-untyped-call]  # Transformers types it not
    target = models.load(model, lm_head=claim.lm_head)
    told: list[dict[str, Any]]
    if claim.task.kind == "text":
        told = [{"answer": answer} for answer in trial.answers(directory, claim, target, text)]
    else:
        chances = trial.probabilities(directory, claim, target, text)
        told = [{"label": max(each, key=each.__getitem__), "probabilities": each} for each in chances]
    results = [{"text": line, **each} for line, each in zip(text, told, strict=True)]
    console.emit({"name": claim.prompt, "version": claim.version, "results": results}, form, _answers)


def _remote(server: str, ca: Path) -> Remote:
    try:
        authority = decoded(ca.read_bytes()).encode()
    except OSError as error:
        raise UsageError(f"{ca}: cannot read the CA: {error.strerror}") from error
    except NotTextError as error:
        raise UsageError(error.of(ca)) from error
    return Remote(server, authority)


def _described(claim: Claim) -> dict[str, Any]:
    privacy = claim.privacy
    return {
        "name": claim.prompt,
        "version": claim.version,
        "verified": True,
        "task": claim.task.name,
        "target": claim.target,
        "proxy": claim.proxy,
        "epsilon": privacy.epsilon,
        "delta": privacy.delta,
        "unit": privacy.unit,
        "adjacency": privacy.adjacency,
        "accountant": privacy.accountant,
        "not_private": privacy.not_private,
    }


def _row(offer: PromptOffer, publisher: Ed25519PublicKey) -> dict[str, Any]:
    """One line of a listing; what cannot be verified is listed, but nothing it says is."""
    shown = {"name": offer.prompt, "version": offer.version, "create_time": offer.create_time}
    try:
        claim = Claim.of(Statement.verified(offer.statement, publisher, PROMPT_PREDICATE))
        claim.require(offer.prompt, offer.version)
    except VerificationError:
        return {**shown, "verified": False}
    return {**shown, **_described(claim)}


def _table(rows: list[dict[str, Any]]) -> Table | str:
    if not rows:
        return "no prompt is published"
    table = Table("name", "version", "created", "verified", "task", "target", "ε", "δ", box=None)
    for row in rows:
        told = ["", "", "", ""]
        if row["verified"]:
            told = [row["task"], row["target"].name, f"{row['epsilon']:.3g}", f"{row['delta']:.3g}"]
        created = f"{row['create_time']:%Y-%m-%d %H:%M}"
        table.add_row(row["name"], str(row["version"]), created, "yes" if row["verified"] else "NO", *told)
    return table


def _sheet(found: Mapping[str, Any]) -> str:
    privacy = f"ε {found['epsilon']:.4g} at δ {found['delta']:.3g} for one {found['unit']}"
    lines = {
        "prompt": f"{found['name']}, version {found['version']}, signed by the publisher",
        "task": found["task"],
        "target": f"{found['target'].name} ({found['target'].digest[:16]}…)",
        "proxy": f"{found['proxy'].name} ({found['proxy'].digest[:16]}…)",
        "privacy": f"{privacy} ({found['adjacency']}), worst client, {found['accountant']}",
        "not private": "; ".join(found["not_private"]),
    }
    if "directory" in found:
        lines["directory"] = found["directory"]
    if "statement" in found:
        lines["statement"] = json.dumps(found["statement"], indent=1, ensure_ascii=False)
    return "\n".join(f"{name:12} {value}" for name, value in lines.items())


def _answers(found: Mapping[str, Any]) -> str:
    lines = []
    for result in found["results"]:
        ranked = sorted(result.get("probabilities", {}).items(), key=lambda item: -item[1])
        answer = result.get("answer") or "  ".join(f"{label} {chance:.3f}" for label, chance in ranked)
        lines.append(f"{answer}  {result['text']}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
