"""The lineage of a published prompt in its statement: part of version 1 of `prompt_statement`."""

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from transfer.privacy import Guarantee, Unit
from transfer.protocol.statement import Count, Delta, Epsilon, Many, Measured, Named, Part, Positive, Sha256

Share = Annotated[float, Field(ge=0, le=1)]

TRANSFERRED = "transferred"
"""Name of the published prompt among the held-out losses."""


def unbeaten(losses: Mapping[str, float]) -> list[str]:
    """Return the names of the losses that the published prompt's is not below; NaN beats and is beaten by nothing."""
    ours = losses.get(TRANSFERRED, math.nan)
    return [name for name, loss in losses.items() if name != TRANSFERRED and not ours < loss]


class RoundV1(Part):
    """One closed round: SHA-256 of its first and its resulting prompt, clients counted and clients dropped."""

    name: str
    start: Sha256
    prompt: Sha256
    strategy: str
    counted: Many[str]
    dropped: Many[str]


class PublicTextV1(Part):
    """The public text: SHA-256 of its file or list of files (`public_text.digest_of`), and its number of texts."""

    sha256: Sha256
    texts: Count


class TransferV1(Part):
    """The settings of the transfer, see `transfer.post.settings`; `best_step` is the step of the prompt."""

    LEFT_OUT = frozenset({"imitate", "restarts", "length", "formats"})
    alpha: float
    temperature: float
    space: str
    steps: Count
    batch_size: Count
    learning_rate: float
    start: str
    held_out: float
    check_every: Count
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)]
    best_step: Count
    imitate: str = "change"
    restarts: Count = 0
    length: Count = 0
    formats: Positive = 1


class ComparedV1(Part):
    """An earlier prompt, compared or learnt from: resource name, SHA-256 of vectors, campaign, largest cost."""

    prompt: str
    sha256: Sha256
    campaign: str
    epsilon: Epsilon
    delta: Delta


class ComparisonV1(Part):
    """Held-out loss without the library minus with it: paired mean and its standard error."""

    difference: Named
    error: Named


class CostV1(Part):
    """(ε, δ) of one data owner in one campaign, for one `unit`."""

    epsilon: Epsilon
    delta: Delta
    unit: Unit = "record"

    @staticmethod
    def of(guarantee: Guarantee) -> "CostV1":
        """Return `guarantee` in the form of a statement."""
        return CostV1(epsilon=guarantee.epsilon, delta=guarantee.delta, unit=guarantee.unit)

    @property
    def guarantee(self) -> Guarantee:
        """The cost as a guarantee."""
        return Guarantee(self.epsilon, self.delta, self.unit)


class CohortV1(Part):
    """An earlier campaign behind a compared prompt or a start, and its cost to each data owner by name."""

    campaign: str
    costs: dict[str, CostV1]


class StartV1(Part):
    """The start of the first round: `length` prompt tokens, from the task's text, random words or public text.

    Or from earlier prompts: those it was `learnt_from`, and the campaigns behind them.
    """

    LEFT_OUT = frozenset({"learnt_from", "cohorts"})
    length: Count
    init: str
    learnt_from: Many[ComparedV1] = ()
    cohorts: Many[CohortV1] = ()


class LibraryV1(Part):
    """The use of the library of earlier prompts; `mode` is auto, or the name of the one prompt compared."""

    mode: str
    used: ComparedV1 | None
    compared: Many[ComparedV1]
    comparison: ComparisonV1 | None
    cohorts: Many[CohortV1]


class TwinV1(Part):
    """What changes on a quantised twin of the target: see `transfer.post.twins.Twin`."""

    numbers: str
    texts: Count
    agreement: Share
    kl: Measured

    @property
    def told(self) -> str:
        """The change in one line."""
        return f"{self.agreement:.1%} of {self.texts} public texts are answered alike, KL {self.kl:.2g} nats"


class SensitivityV1(Part):
    """How answers depend on the format of the question: see `transfer.wording.sensitivity.Sensitivity`."""

    agreement: Share
    least: Share
    index: Measured


class WordingV1(Part):
    """What the prompt makes of the wording of the question: see `transfer.wording.sensitivity.Wording`."""

    formats: Positive
    texts: Positive
    prompted: SensitivityV1
    bare: SensitivityV1
    drift: Measured
    random_drift: Measured

    @property
    def summary(self) -> dict[str, str]:
        """The measurements by name, each in one line."""
        ours, bare = self.prompted, self.bare
        return {
            "wording": f"in {self.formats - 1} other formats of the question, {ours.agreement:.1%} of {self.texts} "
            f"public texts are answered alike ({ours.least:.1%} in the worst); "
            f"without the prompt {bare.agreement:.1%} ({bare.least:.1%})",
            "POSIX": f"{ours.index:.2g} nats over the labels; without the prompt {bare.index:.2g}",
            "drift": f"KL {self.drift:.2g} nats behind plain text; of a random prompt {self.random_drift:.2g}",
        }


class TurnV1(Part):
    """How often a word turns answers to a class: see `coordinator.publication.triggers.Turn`."""

    word: str
    rate: Share
    wording_rate: Share


class TriggersV1(Part):
    """The words that turn answers unlike behind the bare wording: see `coordinator.publication.triggers.Scan`."""

    label: str
    texts: Positive
    excess: Annotated[float, Field(ge=-1, le=1)]
    words: Many[TurnV1]

    @property
    def summary(self) -> str:
        """The scan in one line."""
        if self.excess <= 0:
            return f"no word turns more answers than behind the bare wording, of {self.texts} public texts"
        words = ", ".join(f"{turn.word!r} {turn.rate:.1%} ({turn.wording_rate:.1%})" for turn in self.words)
        return (
            f"a word turns up to {self.excess:.1%} more answers to {self.label} than behind the bare wording, of "
            f"{self.texts} public texts; least expected: {words or 'none'}"
        )


class LineageV1(Part):
    """The origin of a prompt.

    Attributes:
        start: the prompt that the first round started from.
        rounds: the closed rounds, in order.
        public_text: the text of the transfer.
        transfer: settings of the transfer.
        held_out_loss: loss of the prompt and of its baselines, by name, on held-out public text.
        library: use of the library; None if the campaign used none.
        republishes: the earlier version with the same files after a rollback, else None.
        numbers: what the target's weights were during the transfer, such as bfloat16 or nf4; None for float32.
        twins: what was measured of the prompt on quantised twins of the target, on held-out public text.
        wording: what was measured of the prompt in other formats of its question, on held-out public text; None if
            nothing was, as of a task without label words.
        triggers: what the trigger scan found; None if there was none.
    """

    LEFT_OUT = frozenset({"library", "republishes", "numbers", "twins", "wording", "triggers"})
    start: StartV1
    rounds: Annotated[Many[RoundV1], Field(min_length=1)]
    public_text: PublicTextV1
    transfer: TransferV1
    held_out_loss: dict[str, Measured]
    library: LibraryV1 | None = None
    republishes: Positive | None = None
    numbers: str | None = None
    twins: Many[TwinV1] = ()
    wording: WordingV1 | None = None
    triggers: TriggersV1 | None = None

    @property
    def made_in(self) -> str:
        """What the target's weights were during the transfer."""
        return self.numbers or "float32"
