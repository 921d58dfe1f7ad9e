"""A campaign's plan as a value, stored as self-contained JSON; `plan_file` reads it from TOML."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from coordinator.rounds.server_optimizers import optimiser
from transfer.errors import UsageError, VerificationError
from transfer.names import checked
from transfer.placement.settings import Quantised
from transfer.post.settings import TransferSettings
from transfer.privacy import epsilon
from transfer.protocol.rounds import Tuning
from transfer.tasks import Task

AUTO, NO_LIBRARY = "auto", "none"
"""Library prompts that a transfer considers: all, or none. Any other value is the name of one."""

Init = Literal["text", "vocabulary", "public", "library"]


@dataclass(frozen=True, slots=True)
class Start:
    """The first round's start: a prompt of `length` tokens.

    It is made from the task's text, from random words, so that the proxy answers public text as the target does
    (`transfer.post.starts`), or from what published prompts of the proxy have in common (`transfer.panda.reptile`).
    """

    length: int
    init: Init = "text"


@dataclass(frozen=True, slots=True)
class Publication:
    """What is published.

    Attributes:
        prompt: name of the published prompt.
        require_improvement: whether it must beat its start, and every answer that costs no privacy, on public text.
        twins: quantised twins of the target on which its answers are compared with those on the target.
        formats: formats of the question in which its answers are compared, see `transfer.wording`; 0 for none.
        triggers: whether the statement tells of words that turn its answers, see `coordinator.publication.triggers`.

    Raises:
        UsageError: `formats` is negative, or there is nothing to compare.
    """

    prompt: str
    require_improvement: bool = True
    twins: tuple[Quantised, ...] = ()
    formats: int = 12
    triggers: bool = False

    def __post_init__(self) -> None:
        if self.formats < 0 or self.formats == 1:
            raise UsageError(
                f"plan publish.formats {self.formats} must be ≥ 2 to compare formats, or 0 for none"
            )


@dataclass(frozen=True, slots=True)
class CampaignPlan:
    """Everything a coordinator needs to carry out a campaign.

    Attributes:
        name: name of the campaign, used once.
        task: the task itself, not a path to it.
        proxy: name of a registered proxy.
        public_text: absolute path of unlabelled text, a file or a directory.
        target: directory or hub name of a target; "" means the coordinator's own.
        rounds: number of rounds, ≥ 1.
        deadline_s: longest duration of a round, in seconds.
        min_clients: fewest valid prompts that close a round.
        strategy: name from `coordinator.rounds.server_optimizers`.
        start: prompt that the first round starts from.
        tuning: settings of each client's tuning in each round.
        dimensions: number of directions that clients tune in, learnt from the public text; 0 means all.
        delta: δ at which ε is stated.
        transfer: settings of the transfer to the target.
        publish: name and condition of publication.
        seed: seed of every public random draw.
        server: parameters of the strategy that replace its defaults.
        library: AUTO, NO_LIBRARY, or the name of the only published prompt that the transfer may learn from.
    """

    name: str
    task: Task
    proxy: str
    public_text: str
    target: str
    rounds: int
    deadline_s: float
    min_clients: int
    strategy: str
    start: Start
    tuning: Tuning
    dimensions: int
    delta: float
    transfer: TransferSettings
    publish: Publication
    seed: int = 0
    server: Mapping[str, float] = field(default_factory=dict)
    library: str = NO_LIBRARY

    def __post_init__(self) -> None:
        checked("campaign", self.name)
        checked("library prompt", self.library)
        checked("proxy", self.proxy)
        checked("prompt", self.publish.prompt)
        for name in ("rounds", "min_clients"):
            if getattr(self, name) < 1:
                raise UsageError(f"plan {name} {getattr(self, name)} must be ≥ 1")
        if not (math.isfinite(self.deadline_s) and self.deadline_s > 0):
            raise UsageError(f"plan deadline_s {self.deadline_s} must be finite and > 0")
        optimiser(self.strategy, self.server)
        if not 0 < self.delta < 1:
            raise UsageError(f"plan delta {self.delta} must be in (0, 1)")
        self._check_words()
        self._check_space()

    def _check_words(self) -> None:
        for key, value in (("prompt.init", self.start.init), ("transfer.start", self.transfer.start)):
            if value == "public" and not self.task.has_words:
                raise UsageError(
                    f'plan {key} "public": a bare target answers by label words only; write "text" instead'
                )
        if self.transfer.start == "public" and self.transfer.space == "vocabulary":
            raise UsageError(
                'plan transfer.space "vocabulary": start = "public" compares labels; write space = "labels"'
            )
        if self.publish.triggers and (self.task.kind == "text" or self.task.many):
            raise UsageError(
                "plan publish.triggers true: a word turns a text to one label, and this task has none or many; "
                "write triggers = false"
            )
        if self.library != NO_LIBRARY and not self.task.has_words:
            raise UsageError(
                f'plan transfer.library "{self.library}": prompts are compared by label words; write library = "none"'
            )

    def _check_space(self) -> None:
        if self.task.kind == "text" and self.transfer.space == "labels":
            raise UsageError('plan transfer.space "labels": free text has none; write space = "vocabulary"')
        if self.task.head_rows and self.transfer.space == "vocabulary":
            raise UsageError(
                'plan transfer.space "vocabulary": a head knows labels only; write space = "labels"'
            )

    @property
    def target_length(self) -> int:
        """Prompt tokens of the target's prompt, a head's rows not counted."""
        return self.transfer.length or self.start.length

    @property
    def epsilon(self) -> float:
        """ε at `delta` that a client spends if it takes part in every round; ∞ without noise."""
        return epsilon([self.tuning.spend] * self.rounds, self.delta)

    def to_json(self) -> str:
        """Return the plan as stored; nothing in it refers to the plan file."""
        return _PLAN.dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> "CampaignPlan":
        """Read a plan that `to_json` wrote.

        Raises:
            VerificationError: the text is not a plan: another version wrote it, or the store is damaged.
        """
        try:
            return _PLAN.validate_json(text)
        except (ValidationError, UsageError) as error:
            reason = " ".join(str(error).split())
            raise VerificationError(
                f"the stored plan cannot be read: {reason}; use the version of promptferry that stored it"
            ) from error


_PLAN = TypeAdapter(CampaignPlan)
