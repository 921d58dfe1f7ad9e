"""What tests of this room share."""

import math
from dataclasses import replace

import torch

from transfer.panda.library import LibraryRecord
from transfer.panda.selection import transfer_with_library
from transfer.post.settings import TransferSettings
from transfer.privacy import Guarantee
from transfer.prompt import SoftPrompt
from transfer.tasks import Label, Task

THINGS = ("film", "plot", "music", "food", "long train home", "weather")
VERBS = ("liked", "saw", "made", "missed", "wanted")
TEXTS = tuple(f"We {verb} the {thing}." for verb in VERBS for thing in THINGS)
SETTINGS = TransferSettings(alpha=0.5, steps=4, batch_size=16, learning_rate=0.02, check_every=2)
PRIVATE, PUBLIC = Guarantee(3.0, 1e-6), Guarantee(math.inf, 1e-6)
OTHER = Task(
    "themes",
    "{text} The theme is {answer}",
    (Label("film", ("great",)), Label("food", ("good",)), Label("bank", ("bad",))),
    "A theme",
)


def noise(model, seed, size=1.0, length=4):
    vectors = torch.randn(length, 32, generator=torch.Generator().manual_seed(seed))
    return SoftPrompt(size * vectors, model)


def record(new, name="prompts/other/versions/1", **changes):
    """A library prompt that was carried over from a proxy prompt of its own by no step at all."""
    made = LibraryRecord(
        name, noise(new.target.ref, 5), noise(new.proxy.ref, 5), OTHER, TEXTS[:5], ("other",), PRIVATE
    )
    return replace(made, **changes)


def consult(new, records, *more):
    return transfer_with_library(new, new.problem(SETTINGS), records, *more)


def args(new):
    return new.prompt, new.proxy, new.target, new.task, new.texts
