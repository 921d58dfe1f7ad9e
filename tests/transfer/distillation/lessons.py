"""What tests of this room share."""

import random

import torch

from transfer.distillation.comparison import compared
from transfer.distillation.distil import DistilSettings
from transfer.distillation.exercises import exercises
from transfer.distillation.proxy import cut
from transfer.distillation.settings import LEAST_TOKENS
from transfer.models.language_model import LanguageModel
from transfer.tokens.corpus import sequences_of

WORDS = ("The", "film", "was", "great", "actors", "good", "It", "fun", "terrible", "plot", "bad", "boring")
TEXTS = [" ".join(random.Random(number).choices(WORDS, k=14)) for number in range(60)]
SHORT = DistilSettings(
    steps=6,
    batch_tokens=128,
    sequence_tokens=24,
    learning_rate=5e-3,
    weights=(5.0, 0.1, 1.0),  # a random target knows no language
    check_every=3,
)


def stirred(model):
    """The tiny model with layers that matter: fresh ones are so small that there is nothing to learn."""
    with torch.no_grad():
        for matrix in model.model.parameters():
            matrix.mul_(8 if matrix.ndim == 2 else 1)
    return model


def proxy_of(target):
    return LanguageModel(cut(target, (0,)), target.tokenizer, target.ref, target.lm_head)


def drawn(target, settings, seed=0):
    lines = sequences_of(target.tokenizer, TEXTS, LEAST_TOKENS, settings.sequence_tokens)
    return list(exercises(target, lines, settings, torch.Generator().manual_seed(seed)))


def told(model, exercise):
    """All logits of a model, and its states."""
    answers = compared(model, exercise)
    return answers.head(answers.read), answers.states


def weights(proxy):
    return proxy.model.model.state_dict()


def same(one, other):
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
