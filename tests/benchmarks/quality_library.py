"""The library of a benchmark: a folder with the transferred prompts of other tasks, and its control."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from transfer.files import atomic as files
from transfer.model_ref import ModelRef
from transfer.panda.library import LibraryRecord
from transfer.panda.selection import OWN_TEXTS
from transfer.privacy import Guarantee
from transfer.prompt import SoftPrompt
from transfer.tasks import Label, Task


@dataclass(frozen=True, slots=True)
class LibraryFolder:
    """A folder of prompts, one file a task, `target` and proxy."""

    folder: Path
    task: Task
    target: ModelRef
    proxy: ModelRef

    def keep(
        self, prompt: SoftPrompt, proxy_prompt: SoftPrompt, guarantee: Guarantee, texts: Sequence[str]
    ) -> None:
        """Keep the first prompt of the task, with public texts; later ones are no better for coming later."""
        path = self.folder / f"{self._prefix}{self.task.name}.json"
        if not path.exists():
            told = {
                "task": asdict(self.task),
                "prompt": prompt.vectors.tolist(),
                "proxy_prompt": proxy_prompt.vectors.tolist(),
                "guarantee": [str(guarantee.epsilon), guarantee.delta],
                "texts": texts[:OWN_TEXTS],
            }
            self.folder.mkdir(parents=True, exist_ok=True)
            files.replace(path, json.dumps(told).encode())

    @property
    def digest(self) -> str:
        """Digest of the other tasks' prompts."""
        return hashlib.sha256(b"".join(path.read_bytes() for path in self._others)).hexdigest()[:16]

    def records(self) -> list[LibraryRecord]:
        """The prompts of all tasks but this one; those of older files have no texts."""
        return [self._record(path) for path in self._others]

    def shuffled(self, seed: int) -> list[LibraryRecord]:
        """The same prompts, each one's numbers in a random order: as long as before, and knowing nothing."""
        generator = torch.Generator().manual_seed(seed)
        return [
            replace(
                record,
                prompt=_shuffled(record.prompt, generator),
                proxy_prompt=_shuffled(record.proxy_prompt, generator),
            )
            for record in self.records()
        ]

    @property
    def _prefix(self) -> str:
        return f"{self.target.digest[:8]}-{self.proxy.digest[:8]}-"

    @property
    def _others(self) -> Sequence[Path]:
        found = sorted(self.folder.glob(f"{self._prefix}*.json"))
        return [path for path in found if path.stem != f"{self._prefix}{self.task.name}"]

    def _record(self, path: Path) -> LibraryRecord:
        told = json.loads(path.read_text(encoding="utf-8"))
        labels = tuple(Label(label["name"], tuple(label["words"])) for label in told["task"]["labels"])
        task = Task(**told["task"] | {"labels": labels})
        epsilon, delta = told["guarantee"]
        return LibraryRecord(
            name=task.name,
            prompt=SoftPrompt(torch.tensor(told["prompt"]), self.target),
            proxy_prompt=SoftPrompt(torch.tensor(told["proxy_prompt"]), self.proxy),
            task=task,
            texts=tuple(told.get("texts", ())),
            cohorts=(task.name,),
            guarantee=Guarantee(float(epsilon), delta),
        )


def _shuffled(prompt: SoftPrompt, generator: torch.Generator) -> SoftPrompt:
    numbers = prompt.vectors.flatten()
    order = torch.randperm(len(numbers), generator=generator)
    return SoftPrompt(numbers[order].view_as(prompt.vectors), prompt.model)
