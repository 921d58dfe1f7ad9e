"""What the quality benchmark is about: models, records, and the prompts it makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from client.private.records import PrivateRecords
from tests.benchmarks.quality_library import LibraryFolder
from transfer.models.language_model import LanguageModel
from transfer.placement.devices import numbers_of
from transfer.prompt import SoftPrompt
from transfer.tasks import Task


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Everything that is loaded once: models, task, records, and public text whose labels are never read."""

    target: LanguageModel
    proxy: LanguageModel
    control: LanguageModel
    task: Task
    private: PrivateRecords
    public: Sequence[str]
    test: PrivateRecords
    library: LibraryFolder | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """A prompt and the seconds its tuning took, whenever that was."""

    prompt: SoftPrompt
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Delivered:
    """The prompt of a method, if it has one, and what its record says of how that came about.

    Of a plain transfer `told` has the `alpha`, whatever rule chose it; of a library the `library` prompt that went
    through the whole transfer, None if there was none, and whether it was `kept`.
    """

    prompt: SoftPrompt | None
    told: Mapping[str, Any] = field(default_factory=dict)


def in_numbers(model: LanguageModel) -> str:
    """What stands behind a model's name: its numbers, or nothing in float32."""
    numbers = numbers_of(model.model)
    return "" if numbers == "float32" else f"@{numbers}"
