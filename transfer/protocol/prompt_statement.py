"""The signed statement about a published prompt: version 1 of the schema, read and written only here.

Older statements lack some keys. Without `unit`, a cost is for one record. Without `kind`, `label_reading` and
`answer_tokens`, a task has label words of one token each. Without `chat`, `system` and `prompt_at`, its line is the
plain template and the prompt stands before it. Without `many`, a text has one label; without `threshold` that is 0.5,
and without `weight` a label's is 1. Without `library`, the campaign used none. Instead of `lm_head` there may be
`causal`.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from transfer.model_ref import LmHead
from transfer.privacy import Guarantee, Unit
from transfer.protocol.prompt_lineage import LineageV1
from transfer.protocol.signing import PROMPT_PREDICATE
from transfer.protocol.statement import (
    Count,
    Delta,
    Epsilon,
    Many,
    ModelV1,
    Part,
    Positive,
    Predicate,
    Sha256,
)
from transfer.tasks import Kind, Label, LabelReading, PromptAt, Task


class LabelV1(Part):
    """One class, its label words (none if a head reads the task) and the weight of its loss."""

    LEFT_OUT = frozenset({"weight"})
    name: str
    words: Many[str]
    weight: float = 1.0


class TaskV1(Part):
    """A task; `transfer.tasks.Task` explains the keys."""

    LEFT_OUT = frozenset({"chat", "system", "prompt_at", "many", "threshold"})
    name: str
    template: str
    labels: Many[LabelV1]
    init_text: str
    max_tokens: Count
    kind: Kind = "label"
    label_reading: LabelReading = "single"
    answer_tokens: Count = 16
    chat: bool = False
    system: str = ""
    prompt_at: PromptAt = "start"
    many: bool = False
    threshold: float = 0.5

    @staticmethod
    def of(task: Task) -> "TaskV1":
        """Return `task` in the form of a statement."""
        return TaskV1(
            name=task.name,
            template=task.template,
            labels=tuple(
                LabelV1(name=label.name, words=label.words, weight=label.weight) for label in task.labels
            ),
            init_text=task.init_text,
            max_tokens=task.max_tokens,
            kind=task.kind,
            label_reading=task.label_reading,
            answer_tokens=task.answer_tokens,
            chat=task.chat,
            system=task.system,
            prompt_at=task.prompt_at,
            many=task.many,
            threshold=task.threshold,
        )

    @property
    def task(self) -> Task:
        """The task as a value; an impossible one raises a TaskError."""
        return Task(
            name=self.name,
            template=self.template,
            labels=tuple(Label(label.name, label.words, label.weight) for label in self.labels),
            init_text=self.init_text,
            max_tokens=self.max_tokens,
            kind=self.kind,
            label_reading=self.label_reading,
            answer_tokens=self.answer_tokens,
            chat=self.chat,
            system=self.system,
            prompt_at=self.prompt_at,
            many=self.many,
            threshold=self.threshold,
        )

    @model_validator(mode="after")
    def _possible(self) -> "TaskV1":
        _ = self.task  # raises TaskError
        return self


class PerRoundV1(Part):
    """Each client's tuning in each round: one `transfer.privacy.Spend`, and the clipping norm C."""

    noise_multiplier: Annotated[float, Field(ge=0)]
    sample_rate: Annotated[float, Field(gt=0, le=1)]
    steps: Positive
    unit: Unit = "record"
    clip_norm: Annotated[float, Field(gt=0)]


class ClientV1(Part):
    """(ε, δ) of one data owner: for this campaign, and the largest it stated for its data set's whole life."""

    client: str
    rounds: Count
    epsilon: Epsilon
    delta: Delta
    lifetime_epsilon: Epsilon
    lifetime_delta: Delta


class PrivacyV1(Part):
    """The privacy claim: (ε, δ) of the data owner with the largest cost, inherited campaigns included.

    Attributes:
        per_round: tuning of each client in each round.
        clients: cost of each data owner.
        not_private: what the claim does not cover.
    """

    unit: Unit = "record"
    adjacency: str
    epsilon: Epsilon
    delta: Delta
    accountant: str
    sampling: str
    noise: str
    per_round: PerRoundV1
    clients: Many[ClientV1]
    not_private: Many[str]

    @property
    def guarantee(self) -> Guarantee:
        """The claim as a guarantee."""
        return Guarantee(self.epsilon, self.delta, self.unit)


class PromptStatement(Predicate):
    """The signed statement about the files of one prompt version.

    Attributes:
        prompt: name of the prompt.
        version: number of the version.
        task: the task of the prompt.
        target: the model the prompt stands before.
        proxy: the model the prompt was tuned on.
        lm_head: head of the target.
        campaign: name of the campaign.
        rounds: number of rounds of the campaign.
        lineage: origin of the prompt.
        privacy: the privacy claim.
        chat_line: SHA-256 of what the target's chat template writes around a text; None unless the task is a chat.
    """

    TYPE = PROMPT_PREDICATE
    LEFT_OUT = frozenset({"chat_line"})

    prompt: str
    version: Positive
    task: TaskV1
    target: ModelV1
    proxy: ModelV1
    lm_head: LmHead
    campaign: str
    rounds: Positive
    lineage: LineageV1
    privacy: PrivacyV1
    chat_line: Sha256 | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_causal(cls, content: Any) -> Any:
        if isinstance(content, dict) and "lm_head" not in content and isinstance(content.get("causal"), bool):
            return {**content, "lm_head": "causal" if content["causal"] else "masked"}
        return content


def republished(predicate: Mapping[str, Any], version: int, earlier: int) -> dict[str, Any]:
    """Return the content signed about version `earlier` as that of `version`, with all other keys unchanged."""
    lineage = {**predicate["lineage"], "republishes": earlier}
    return {**predicate, "version": version, "lineage": lineage}
