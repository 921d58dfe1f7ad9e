"""The checkpoint of a distillation: one file, written tensor by tensor and replaced as a whole.

A process killed while it writes leaves the previous file. A file of another recipe is refused.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from transfer.errors import UsageError
from transfer.files.atomic import replacing

FILE = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Everything later steps depend on, apart from the recipe.

    Attributes:
        step: steps taken.
        kl: best held-out KL so far.
        stale: measurements since then without enough improvement.
        tensors: trained weights, those of the best state, and the optimiser's, by KIND/WEIGHT.
    """

    step: int
    kl: float
    stale: int
    tensors: Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoint of one distillation.

    Attributes:
        directory: directory of this distillation alone; created with the first checkpoint.
        recipe: everything that decides the result, ready for JSON.
        written: whether this process writes it; another one may read only.
    """

    directory: Path
    recipe: Mapping[str, object]
    written: bool = True

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the previous checkpoint by `checkpoint`, durably.

        Raises:
            UsageError: the directory cannot be written.
        """
        if not self.written:
            return
        state = {
            "step": checkpoint.step,
            "kl": checkpoint.kl,
            "stale": checkpoint.stale,
            "recipe": self.recipe,
        }
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write {self.directory}: {error.strerror}") from error
        path = self.directory / FILE
        with replacing(path) as draft:
            try:
                # writes each tensor from where it is; a disk that is full is no OSError here
                save_file(dict(checkpoint.tensors), draft, metadata={"told": json.dumps(state)})
            except SafetensorError as error:
                raise UsageError(f"cannot write {path}: {error}") from error

    def read(self) -> Checkpoint | None:
        """Return the checkpoint; None if there is none yet.

        Raises:
            UsageError: the checkpoint has another recipe or is damaged.
        """
        path = self.directory / FILE
        for draft in self.directory.glob(".*"):
            draft.unlink(missing_ok=True)  # left by a process killed while it, or safetensors, was writing
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                state = json.loads(file.metadata()["told"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a mapping
            self._require_same(state["recipe"], path)
            return Checkpoint(state["step"], state["kl"], state["stale"], tensors)
        except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{path}: cannot be read ({error!r}); remove it to start again") from error

    def _require_same(self, theirs: dict[str, object], path: Path) -> None:
        ours = json.loads(_canonical(self.recipe))
        changed = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
        if changed:
            raise UsageError(
                f"{path}: is of recipe {_digest(theirs)}, not of {_digest(ours)}: {', '.join(changed)} differ; "
                f"distil as before, or remove {self.directory}"
            )


def _digest(recipe: Mapping[str, object]) -> str:
    return hashlib.sha256(_canonical(recipe).encode()).hexdigest()[:12]


def _canonical(recipe: Mapping[str, object]) -> str:
    return json.dumps(recipe, sort_keys=True)
