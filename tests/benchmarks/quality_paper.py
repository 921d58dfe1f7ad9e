"""PANDA as its paper has it, in three tunings of the target on the labels of the new task.

A fresh prompt tuned alone tells how like the task is to each of a library's, and the likest is the source. The
source's prompt tuned on the new task is the teacher. A fresh prompt then learns from labels and teacher
(`tests.benchmarks.panda_paper`). All of it happens in one place and without privacy, as same-model tuning does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tests.benchmarks.panda_paper import paper_transfer
from tests.benchmarks.quality_library import LibraryFolder
from transfer.errors import UsageError
from transfer.models.language_model import LanguageModel
from transfer.panda.library import LibraryRecord
from transfer.panda.scores import answer_states, task_similarity
from transfer.panda.selection import OWN_TEXTS
from transfer.post.settings import TransferSettings
from transfer.progress import OnStep
from transfer.prompt import SoftPrompt
from transfer.tasks import Task


def sources(library: LibraryFolder) -> list[LibraryRecord]:
    """The prompts that may be a source.

    Raises:
        UsageError: there is none, or one has no texts of its own task to be compared by.
    """
    found = [record for record in library.records() if record.task.has_words]
    if not found:
        raise UsageError(
            f"--library {library.folder}: no prompt of another task yet; run --methods post on one"
        )
    for record in found:
        if not record.texts:
            raise UsageError(
                f"--library {library.folder}: the prompt of {record.name!r} has no texts; "
                "fill another folder by --methods post with another --out"
            )
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Paper:
    """A new task of the target: labelled records, public texts that it is compared by, how to descend."""

    target: LanguageModel
    task: Task
    labelled: Sequence[tuple[str, int]]
    texts: Sequence[str]
    settings: TransferSettings

    def transferred(
        self, start: SoftPrompt, library: Sequence[LibraryRecord], on_step: OnStep
    ) -> tuple[SoftPrompt, LibraryRecord]:
        """The prompt that a fresh `start` becomes, and the source of its teacher."""
        alone = self.learnt(start, start, 0.0, on_step)
        similarities = self.similarities(alone, library)
        similarity, place = max(zip(similarities, range(len(library)), strict=True))
        source = library[place]
        teacher = self.learnt(source.prompt, source.prompt, 0.0, on_step)
        return self.learnt(start, teacher, similarity, on_step), source

    def learnt(
        self, start: SoftPrompt, teacher: SoftPrompt, similarity: float, on_step: OnStep
    ) -> SoftPrompt:
        """`start` tuned on the labels; at similarity 0 the teacher has no say."""
        given = (self.target, self.task, self.labelled, self.settings)
        return paper_transfer(start, teacher, similarity, *given, on_step).prompt

    def similarities(self, alone: SoftPrompt, library: Sequence[LibraryRecord]) -> list[float]:
        """Of the task to each of the library's, every one on its own texts behind its own prompt."""

        def states(task: Task, texts: Sequence[str], prompt: SoftPrompt) -> torch.Tensor:
            lines = self.target.encoder(task).encode(texts[:OWN_TEXTS])
            return answer_states(self.target, lines, prompt)

        own = states(self.task, self.texts, alone)
        return [task_similarity(own, states(each.task, each.texts, each.prompt)) for each in library]
