"""What tests of this room share."""

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from transfer.post.settings import TransferSettings

QUICK = TransferSettings(steps=30, batch_size=8, learning_rate=0.05, check_every=5)
WORDS = (
    "film",
    "plot",
    "music",
    "food",
    "weather",
    "noise",
    "train",
    "walk",
    "team",
    "bank",
    "rates",
    "market",
)
TEXTS = [f"We liked the {one} and the {other}." for one in WORDS for other in WORDS[:4]]


class Forwards:
    """While it stands: the (model, training text rows) of every forward pass of the given models."""

    def __init__(self, **models):
        self.names = {model.model: name for name, model in models.items()}
        self.seen = []

    def __enter__(self):
        self.handle = register_module_forward_pre_hook(self._note)
        return self

    def __exit__(self, *_):
        self.handle.remove()

    def _note(self, module, _inputs):
        if module in self.names:
            self.seen.append((self.names[module], torch.is_grad_enabled()))
