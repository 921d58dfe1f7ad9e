"""Where a published prompt comes from, as its statement has it: part of version 1 of `prompt_statement`."""

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from transfer.privacy import Guarantee, Unit
from transfer.protocol.statement import Count, Delta, Epsilon, Many, Measured, Named, Part, Positive, Sha256


class StartV1(Part):
    """Where the first round started: `length` prompt tokens, from the task's text or of random words."""

    length: Count
    init: str


class RoundV1(Part):
    """One closed round: SHA-256 of the prompts it started from and made, and who counted."""

    name: str
    start: Sha256
    prompt: Sha256
    strategy: str
    counted: Many[str]
    dropped: Many[str]


class PublicTextV1(Part):
    """The public text: SHA-256 of its file, and how many texts it held."""

    sha256: Sha256
    texts: Count


class TransferV1(Part):
    """How the prompt was carried over; explained at `transfer.post.settings`. `best_step` is the one returned."""

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


class ComparedV1(Part):
    """An earlier prompt that had a say: resource name, SHA-256 of its vectors, campaign, worst client's cost."""

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
        """`guarantee` as a statement has it."""
        return CostV1(epsilon=guarantee.epsilon, delta=guarantee.delta, unit=guarantee.unit)

    @property
    def guarantee(self) -> Guarantee:
        """The cost as it is composed."""
        return Guarantee(self.epsilon, self.delta, self.unit)


class CohortV1(Part):
    """An earlier campaign whose data owners are behind what was compared, and what it cost each by name."""

    campaign: str
    costs: dict[str, CostV1]


class LibraryV1(Part):
    """What the library of earlier prompts had to say. `mode` is auto, or the name of the one prompt asked."""

    mode: str
    used: ComparedV1 | None
    compared: Many[ComparedV1]
    comparison: ComparisonV1 | None
    cohorts: Many[CohortV1]


class LineageV1(Part):
    """Where a prompt comes from.

    Attributes:
        held_out_loss: of the prompt and its baselines, by name, on public text.
        library: None if it was not asked.
        republishes: the version whose files these are, None unless it was rolled back to.
    """

    start: StartV1
    rounds: Annotated[Many[RoundV1], Field(min_length=1)]
    public_text: PublicTextV1
    transfer: TransferV1
    held_out_loss: dict[str, Measured]
    library: LibraryV1 | None = None
    republishes: Positive | None = None

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys that only some statements have."""
        absent = {name for name in ("library", "republishes") if getattr(self, name) is None}
        return {key: value for key, value in handler(self).items() if key not in absent}
