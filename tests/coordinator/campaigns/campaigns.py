"""What tests of this room share."""

import torch

from transfer.models.loading import load


def start_of(world):
    return load(world.store.proxy("tiny").directory).text_prompt(world.plan.task.init_text, 4).vectors


def stay_inside(world):
    for name in ("ada", "ben", "cleo"):
        world.fleet.owners[name].update = lambda request: request.subspace.vectors(
            torch.tensor([0.1, 0.0, 0.3])
        )
