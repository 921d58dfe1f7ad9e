"""A published prompt as `promptferry` shows it: a row of a listing, or a sheet."""

from collections.abc import Mapping
from typing import Any, get_args

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from rich.table import Table

from client.prompts.claim import Claim
from client.remote.offers import PromptOffer
from transfer.errors import VerificationError
from transfer.placement.settings import Quantised
from transfer.protocol.prompt_lineage import TriggersV1, TwinV1, WordingV1, unbeaten
from transfer.protocol.prompt_statement import PromptStatement
from transfer.protocol.signing import PROMPT_PREDICATE, Statement
from transfer.tasks import Task


def described(claim: Claim) -> dict[str, Any]:
    """Return the content of a verified claim, for machines."""
    privacy = claim.privacy
    return {
        "name": claim.prompt,
        "version": claim.version,
        "verified": True,
        "task": claim.task.name,
        "prompt_at": claim.task.prompt_at,
        "target": claim.target,
        "proxy": claim.proxy,
        "numbers": claim.statement.lineage.made_in,
        "twins": [twin.model_dump() for twin in claim.statement.lineage.twins],
        "wording": wording.model_dump() if (wording := claim.statement.lineage.wording) else None,
        "triggers": scan.model_dump() if (scan := claim.statement.lineage.triggers) else None,
        "epsilon": privacy.epsilon,
        "delta": privacy.delta,
        "unit": privacy.unit,
        "adjacency": privacy.adjacency,
        "accountant": privacy.accountant,
        "not_private": privacy.not_private,
    }


def row(offer: PromptOffer, publisher: Ed25519PublicKey) -> dict[str, Any]:
    """Return one row of a listing. A prompt that fails verification is listed without its claims."""
    shown = {"name": offer.prompt, "version": offer.version, "create_time": offer.create_time}
    try:
        claim = Claim.of(Statement.verified(offer.statement, publisher, PROMPT_PREDICATE))
        claim.require(offer.prompt, offer.version)
    except VerificationError:
        return {**shown, "verified": False}
    return {**shown, **described(claim)}


def table(rows: list[dict[str, Any]]) -> Table | str:
    """Return a listing as a table."""
    if not rows:
        return "no prompt is published"
    shown = Table("name", "version", "created", "verified", "task", "target", "ε", "δ", box=None)
    for each in rows:
        claim = ["", "", "", ""]
        if each["verified"]:
            claim = [each["task"], each["target"].name, f"{each['epsilon']:.3g}", f"{each['delta']:.3g}"]
        created, verified = f"{each['create_time']:%Y-%m-%d %H:%M}", "yes" if each["verified"] else "NO"
        shown.add_row(each["name"], str(each["version"]), created, verified, *claim)
    return shown


def sheet(prompt: Mapping[str, Any], statement: PromptStatement | None = None) -> str:
    """Return what `described` says of one prompt and the rest of its statement, one item per line."""
    privacy = f"ε {prompt['epsilon']:.4g} at δ {prompt['delta']:.3g} for one {prompt['unit']}"
    lines = {
        "prompt": f"{prompt['name']}, version {prompt['version']}, signed by the publisher",
        "task": prompt["task"],
        "target": f"{prompt['target'].name} ({prompt['target'].digest[:16]}…)",
        "proxy": f"{prompt['proxy'].name} ({prompt['proxy'].digest[:16]}…)",
        "privacy": f"{privacy} ({prompt['adjacency']}), worst client, {prompt['accountant']}",
        "not private": "; ".join(prompt["not_private"]),
    }
    if prompt["prompt_at"] == "user":
        lines["prompt at"] = (
            "the start of the user's turn; PEFT would put it before everything, `promptferry try` does not"
        )
    if prompt["twins"]:
        lines["made on"] = f"the target in {prompt['numbers']}"
        lines |= {f"  in {twin['numbers']}": TwinV1(**twin).told for twin in prompt["twins"]}
    if prompt["wording"]:
        lines |= WordingV1(**prompt["wording"]).summary
    if prompt["triggers"]:
        lines["trigger scan"] = TriggersV1(**prompt["triggers"]).summary
    if "directory" in prompt:
        lines["directory"] = prompt["directory"]
    if statement is not None:
        lines |= _stated(statement)
    return "\n".join(f"{name:12} {value}" for name, value in lines.items())


def _stated(statement: PromptStatement) -> dict[str, str]:
    """The rest of a signed statement that people read; `--format json` shows all of it."""
    lines = {"template": statement.task.template, **_turns(statement.task.task)}
    if statement.task.many:
        lines["labels"] = f"any number a text: those of a probability above {statement.task.threshold:g}"
    for label in statement.task.labels:
        weight = "" if label.weight == 1 else f", weight {label.weight:g}"
        lines[f"  {label.name}"] = ", ".join(label.words) or f"read by a head{weight}"
    lines["campaign"] = f"{statement.campaign}, {statement.rounds} rounds"
    if learnt := statement.lineage.start.learnt_from:
        lines["start"] = f"learnt from {', '.join(item.prompt for item in learnt)}"
    lines["clients"] = "; ".join(
        f"{each.client}: ε {each.epsilon:.4g} at δ {each.delta:.3g}" for each in statement.privacy.clients
    )
    if losses := statement.lineage.held_out_loss:
        lines["target in"] = statement.lineage.made_in
        lines["public loss"] = ", ".join(f"{name} {loss:.4g}" for name, loss in losses.items())
        if names := unbeaten(losses):
            lines["not better"] = f"than {', '.join(names)}, on public text"
    return lines


def twin_note(statement: PromptStatement, numbers: str) -> str | None:
    """Return what is known of a prompt on its target in other `numbers`; None if the same, or neither quantised."""
    made = statement.lineage.made_in
    if numbers == made or not {numbers, made} & set(get_args(Quantised)):
        return None
    known = next((twin.told for twin in statement.lineage.twins if twin.numbers == numbers), None)
    return f"the prompt was made on the target in {made}; in {numbers} " + (known or "it was not measured")


def _turns(task: Task) -> dict[str, str]:
    """Return who says what in a chat; nothing of a plain line."""
    if not task.chat:
        return {}
    system = {"system": task.system} if task.system else {}
    return {**system, "chat": "the template up to {answer} is the user's turn, the answer the assistant's"}


def answers(report: Mapping[str, Any]) -> str:
    """Return a prompt's answers to texts, one per line; of several labels a text, ✓ marks those that apply."""
    lines = []
    for result in report["results"]:
        ranked = sorted(result.get("probabilities", {}).items(), key=lambda item: -item[1])
        over = result.get("labels", ())
        shown = (f"{'✓ ' * (label in over)}{label} {chance:.3f}" for label, chance in ranked)
        answer = result.get("answer") or "  ".join(shown)
        lines.append(f"{answer}  {result['text']}")
    return "\n".join(lines)
