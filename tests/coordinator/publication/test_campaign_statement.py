"""What a coordinator signs about a campaign, byte for byte what it signed when version 1 of the schema was new."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from coordinator.publication.campaign_statement import campaign_statement
from coordinator.publication.contributions import Contribution
from coordinator.publication.library import LibraryEntry
from coordinator.publication.transfer import TransferResult
from coordinator.rounds.history import ClientCost, History, RoundHistory
from coordinator.rounds.plan import CampaignPlan, Publication, Start
from transfer.model_ref import ModelRef
from transfer.panda.library import Candidate, Choice, Comparison, LibraryRecord
from transfer.post.descent import Transferred
from transfer.post.settings import TransferSettings
from transfer.privacy import Guarantee, Spend, accountant_name
from transfer.prompt import SoftPrompt
from transfer.protocol.prompt_statement import PromptStatement
from transfer.protocol.rounds import Tuning
from transfer.protocol.signing import PROMPT_PREDICATE, statement
from transfer.tasks import Label, Task

GOLDEN = Path(__file__).parents[2] / "golden" / "v1" / "payloads"
PROXY, TARGET = ModelRef("tiny", "a" * 64), ModelRef("tiny-target", "b" * 64)
WORDS = Task(
    "reviews",
    "{text} It was {answer}",
    (Label("positive", ("great", "good")), Label("negative", ("schlecht", "übel"))),
    "A sentence about a review",
    max_tokens=32,
    label_reading="first",
)
HEAD = replace(
    WORDS,
    template="{text}",
    labels=(Label("positive", ()), Label("negative", ())),
    label_reading="head",
    answer_tokens=4,
)
SETTINGS = TransferSettings(alpha=0.25, steps=4, learning_rate=0.05, check_every=2, seed=5)
PLAN = CampaignPlan(
    name="first",
    task=WORDS,
    proxy="tiny",
    public_text="public.txt",
    target="",
    rounds=2,
    deadline_s=5.0,
    min_clients=3,
    strategy="default",
    start=Start(length=4),
    tuning=Tuning(Spend(2.0, 0.5, 10), clip_norm=1.0, learning_rate=0.1),
    dimensions=0,
    delta=1e-6,
    transfer=SETTINGS,
    publish=Publication("tiny-prompt"),
)


def history(costs: tuple[ClientCost, ...]) -> History:
    rounds = tuple(
        RoundHistory(
            f"campaigns/first/rounds/{n}", f"{n}" * 64, f"{n + 1}" * 64, "mean", ("ada", "ben"), dropped
        )
        for n, dropped in ((1, ()), (2, ("eve",)))
    )
    return History(rounds, SoftPrompt(torch.ones(4, 3), PROXY), costs)


COSTS = (
    ClientCost("ada", 2, Guarantee(3.75, 1e-6), Guarantee(5.5, 1e-7)),
    ClientCost("ben", 1, Guarantee(2.1, 1e-6), Guarantee(math.inf, 1e-7)),
)
FREE = (ClientCost("ada", 2, Guarantee(math.inf, 1e-6, "user"), Guarantee(math.inf, 1e-5, "user")),)
RESULT = TransferResult(
    prompt=SoftPrompt(torch.ones(4, 3), TARGET),
    proxy=PROXY,
    lm_head="masked",
    losses={"transferred": 0.1, "start": 1 / 3, "random": 1e22},
    best_step=2,
    settings=SETTINGS,
    texts=48,
    texts_digest="c" * 64,
    choice=None,
    entries=(),
)


def entry(name: str, campaign: str, epsilon: float, *older: Contribution) -> LibraryEntry:
    own = Contribution(campaign, {"ada": Guarantee(epsilon, 1e-6), "cleo": Guarantee(0.5, 1e-7)})
    contributions = (own, *older)
    prompt = SoftPrompt(torch.ones(4, 3), TARGET)
    cohorts = tuple(item.campaign for item in contributions)
    record = LibraryRecord(name, prompt, prompt, WORDS, (), cohorts, Guarantee(epsilon, 1e-6))
    return LibraryEntry(record, "d" * 64, contributions)


def asked(comparison: Comparison | None, finalist: str | None, *entries: LibraryEntry) -> TransferResult:
    moved = Transferred(RESULT.prompt, 0.1, 0.3, 2, SETTINGS)
    candidates = (Candidate("none"), *(Candidate(item.record.name) for item in entries))
    choice = Choice(moved, moved, candidates, finalist, finalist, comparison)
    return replace(RESULT, choice=choice, entries=entries)


OLDER = Contribution("zeroth", {"dora": Guarantee(0.25, 1e-8)})
TWO = (entry("prompts/a/versions/1", "a", 1.5, OLDER), entry("prompts/b/versions/2", "b", 2.0))
CASES = {
    "words": (PLAN, history(COSTS), RESULT),
    "head": (replace(PLAN, task=HEAD), history(COSTS), replace(RESULT, lm_head="none")),
    "text": (
        replace(
            PLAN, task=replace(WORDS, labels=(), kind="text"), transfer=replace(SETTINGS, space="vocabulary")
        ),
        history(COSTS),
        RESULT,
    ),
    "users-not-private": (
        replace(PLAN, tuning=replace(PLAN.tuning, spend=Spend(0.0, 1.0, 5, "user"), optimizer="sgd")),
        history(FREE),
        RESULT,
    ),
    "library-used": (
        replace(PLAN, library="auto"),
        history(COSTS),
        asked(Comparison(0.5, 0.125), TWO[0].record.name, *TWO),
    ),
    "library-unused": (
        replace(PLAN, library="b"),
        history(COSTS),
        asked(
            Comparison(math.nan, math.inf), TWO[1].record.name, entry("prompts/b/versions/2", "b", math.inf)
        ),
    ),
    "library-empty": (replace(PLAN, library="auto"), history(COSTS), asked(None, None)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_campaign_is_signed_as_the_same_bytes(case: str) -> None:
    plan, rounds, result = CASES[case]
    stated = campaign_statement(plan, rounds, result, 7).to_predicate()
    payload = statement({"adapter_config.json": "e" * 64}, PROMPT_PREDICATE, stated)
    payload = payload.replace(accountant_name().encode(), b"PRV (opacus)")
    assert payload == (GOLDEN / f"{case}.json").read_bytes()


def test_the_numbers_of_a_target_are_told_where_they_are_not_float32() -> None:
    plan, rounds, result = CASES["words"]
    lineage = campaign_statement(plan, rounds, replace(result, numbers="nf4"), 7).to_predicate()["lineage"]
    assert lineage["numbers"] == "nf4"


def test_a_chat_says_its_turns_the_prompts_place_and_what_the_chat_template_writes() -> None:
    task = replace(WORDS, chat=True, system="Be kind.", prompt_at="user")
    result = replace(RESULT, lm_head="causal", chat_line="f" * 64)
    stated = campaign_statement(replace(PLAN, task=task), history(COSTS), result, 7).to_predicate()
    plain = campaign_statement(PLAN, history(COSTS), replace(RESULT, lm_head="causal"), 7).to_predicate()
    assert stated == {
        **plain,
        "task": {**plain["task"], "chat": True, "system": "Be kind.", "prompt_at": "user"},
        "chat_line": "f" * 64,
    }
    assert PromptStatement.from_predicate(stated).task.task == task


def test_several_labels_a_text_add_their_keys_and_no_others() -> None:
    heavy = (replace(HEAD.labels[0], weight=2.0), *HEAD.labels[1:])
    task = replace(HEAD, labels=heavy, many=True, threshold=0.25)
    stated = campaign_statement(replace(PLAN, task=task), history(COSTS), RESULT, 7).to_predicate()
    plain = campaign_statement(replace(PLAN, task=HEAD), history(COSTS), RESULT, 7).to_predicate()
    first, *others = plain["task"]["labels"]
    labels = ({**first, "weight": 2.0}, *others)
    told = {"labels": labels, "many": True, "threshold": 0.25}
    assert stated == {**plain, "task": {**plain["task"], **told}}
    assert PromptStatement.from_predicate(stated).task.task == task
