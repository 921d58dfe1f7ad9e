"""What a benchmark is run on: two models, a task and records, real ones or made up.

A made-up model has random weights, which cost as much as trained ones, and a vocabulary of whole words.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from transfer.distillation.layers import spread
from transfer.distillation.proxy import cut
from transfer.errors import UsageError
from transfer.model_ref import ModelRef
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.models.per_record_gradients import LabelledLines
from transfer.placement.settings import HERE, Placement
from transfer.tasks import Task

TASK = Path(__file__).parents[2] / "deploy" / "tasks" / "sst2.toml"
"""The task of a benchmark that names none."""
CONFIGS = {
    "gpt2-small": GPT2Config(bos_token_id=1, eos_token_id=1),
    "tiny": GPT2Config(
        vocab_size=200, n_embd=32, n_layer=2, n_head=2, n_positions=192, bos_token_id=1, eos_token_id=1
    ),
}
"""GPT-2 small is 12 layers, 768 wide, 50257 tokens; tiny is for tests."""
WORDS = (
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "was",
    "it",
    "for",
    "on",
    "with",
    "as",
    "at",
    "by",
    "from",
    "he",
)
"""One token each for most tokenisers; made-up records are made of them."""
MEDIAN, SPREAD, LEAST, MOST = 24, 0.5, 8, 100
"""Words of a made-up record, log-normal: between the sentences of SST-2 (mean 17) and of AG News (mean 38)."""


@dataclass(frozen=True, slots=True)
class Workload:
    """The same work for every recipe: records of `task`, their classes taken in turn, and P prompt tokens."""

    target: LanguageModel
    proxy: LanguageModel
    task: Task
    texts: Sequence[str]
    prompt_tokens: int

    @property
    def labels(self) -> tuple[int, ...]:
        """A class for each record; what it is costs nothing."""
        return tuple(index % len(self.task.labels) for index in range(len(self.texts)))

    def data(self, records: int) -> LabelledLines:
        """The first `records` as the target reads them."""
        encoder = self.target.encoder(self.task)
        labels = torch.tensor(self.labels[:records])
        return LabelledLines(encoder.encode(self.texts[:records]), labels, encoder.words)


def target_of(
    model: str | None, config: str | None, task: Task, placement: Placement = HERE
) -> LanguageModel:
    """The real model or the random one, whichever is named.

    Raises:
        UsageError: both are, or neither; or a random model is to be placed, which is made on the CPU.
    """
    if (model is None) == (config is None):
        raise UsageError("give either --model or --config")
    if model is not None:
        return load(model, placement=placement)
    if placement != HERE:
        raise UsageError("a random model is on the CPU in float32: name a --model to place")
    return random_model(config, task)


def random_model(name: str, task: Task) -> LanguageModel:
    """A model of `CONFIGS` with random weights, in whose vocabulary every word of `task` is one token."""
    config = CONFIGS[name]
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config)
    answers = (word for label in task.labels for word in label.words)
    text = " ".join([task.template.format(text="", answer=""), task.init_text, *answers, *WORDS])
    known = ["<pad>", "</s>", "<unk>", *dict.fromkeys(re.findall(r"\w+|[^\w\s]+", text))]
    filled = [*known, *(f"unused{index}" for index in range(config.vocab_size - len(known)))]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(filled)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    return LanguageModel(model, wrapped, ModelRef(name, "0" * 64), lm_head="causal")


def proxy_of(target: LanguageModel, layers: int) -> LanguageModel:
    """An undistilled cut of the target: it costs what a distilled one costs."""
    model = cut(target, spread(layers, target.layers))
    return LanguageModel(model, target.tokenizer, ModelRef("proxy", "1" * 64), target.lm_head)


def made_up_texts(count: int) -> list[str]:
    """Records of realistic lengths, the same ones every time."""
    draw = random.Random(0)
    lengths = (round(MEDIAN * draw.lognormvariate(0, SPREAD)) for _ in range(count))
    return [" ".join(draw.choices(WORDS, k=min(max(length, LEAST), MOST))) for length in lengths]
