"""What a coordinator signs about a published prompt: version 1 of the schema, read and written here alone.

Statements made before there was a choice lack some keys: without `unit` a cost is for one record, without `kind`,
`label_reading` and `answer_tokens` a task has labels of words of one token each, without `library` none was asked,
and instead of `lm_head` there was `causal`.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from transfer.model_ref import LmHead
from transfer.privacy import Guarantee, Unit
from transfer.protocol.prompt_lineage import LineageV1
from transfer.protocol.signing import PROMPT_PREDICATE
from transfer.protocol.statement import Count, Delta, Epsilon, Many, ModelV1, Part, Positive, Predicate
from transfer.tasks import Kind, Label, LabelReading, Task


class LabelV1(Part):
    """One class and its label words; none if a head reads the task."""

    name: str
    words: Many[str]


class TaskV1(Part):
    """What is asked of a text; the keys are explained at `transfer.tasks.Task`."""

    name: str
    template: str
    labels: Many[LabelV1]
    init_text: str
    max_tokens: Count
    kind: Kind = "label"
    label_reading: LabelReading = "single"
    answer_tokens: Count = 16

    @staticmethod
    def of(task: Task) -> "TaskV1":
        """`task` as a statement has it."""
        return TaskV1(
            name=task.name,
            template=task.template,
            labels=tuple(LabelV1(name=label.name, words=label.words) for label in task.labels),
            init_text=task.init_text,
            max_tokens=task.max_tokens,
            kind=task.kind,
            label_reading=task.label_reading,
            answer_tokens=task.answer_tokens,
        )

    @property
    def task(self) -> Task:
        """The task as it is encoded and read."""
        return Task(
            name=self.name,
            template=self.template,
            labels=tuple(Label(label.name, label.words) for label in self.labels),
            init_text=self.init_text,
            max_tokens=self.max_tokens,
            kind=self.kind,
            label_reading=self.label_reading,
            answer_tokens=self.answer_tokens,
        )

    @model_validator(mode="after")
    def _possible(self) -> "TaskV1":
        _ = self.task  # raises TaskError
        return self


class PerRoundV1(Part):
    """What each client's tuning was in each round: one `transfer.privacy.Spend`, and the clipping norm C."""

    noise_multiplier: Annotated[float, Field(ge=0)]
    sample_rate: Annotated[float, Field(gt=0, le=1)]
    steps: Positive
    unit: Unit = "record"
    clip_norm: Annotated[float, Field(gt=0)]


class ClientV1(Part):
    """(ε, δ) of one data owner: of this campaign, and the most it stated for its data set's whole life."""

    client: str
    rounds: Count
    epsilon: Epsilon
    delta: Delta
    lifetime_epsilon: Epsilon
    lifetime_delta: Delta


class PrivacyV1(Part):
    """The privacy claimed: (ε, δ) of the data owner who paid most, inherited campaigns included.

    Attributes:
        not_private: what the claim says nothing about.
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
        """The whole claim."""
        return Guarantee(self.epsilon, self.delta, self.unit)


class PromptStatement(Predicate):
    """Everything that is signed about the files of one prompt version.

    Attributes:
        task: what the prompt is for; `target`: the model it stands before; `proxy`: the one it was tuned on.
        lm_head: how the target is read.
        rounds: how many the campaign had.
    """

    TYPE = PROMPT_PREDICATE

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

    @model_validator(mode="before")
    @classmethod
    def _from_causal(cls, said: Any) -> Any:
        if isinstance(said, dict) and "lm_head" not in said and isinstance(said.get("causal"), bool):
            return {**said, "lm_head": "causal" if said["causal"] else "masked"}
        return said


def republished(predicate: Mapping[str, Any], version: int, earlier: int) -> dict[str, Any]:
    """What was signed about version `earlier`, said again of `version`: word for word, whoever wrote it."""
    lineage = {**predicate["lineage"], "republishes": earlier}
    return {**predicate, "version": version, "lineage": lineage}
