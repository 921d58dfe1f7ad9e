"""One tiny model as the product loads it, beside the same model as transformers alone runs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tests.families.outcomes import first_line
from tests.families.tiny import FACTORIES, Kind
from transfer.models.language_model import LanguageModel
from transfer.peft_directory import CONFIG_FILE, WEIGHTS_FILE, peft_config
from transfer.prompt import SoftPrompt
from transfer.tasks import Label, Task
from transfer.tokens.batches import Line

PROMPT = 4
WORDS = (Label("positive", ("great", "good")), Label("negative", ("terrible", "bad")))
TASK = Task("reviews", "{text} It was {answer}", WORDS, "A sentence about a review", max_tokens=40)
HEAD = Task(
    "reviews",
    "{text}",
    tuple(Label(label.name, ()) for label in WORDS),
    "A sentence about a review",
    max_tokens=40,
    label_reading="head",
)
FREE = Task(
    "reviews", "{text} It was {answer}", (), "A sentence", max_tokens=40, kind="text", answer_tokens=4
)
TEXTS = (
    "The film was great.",
    "A terrible plot, a bad ending and a long boring evening, slow and awful.",
    "good",
    "We liked the music and the food.",
    "Nobody liked the noise.",
)


def write(kind: Kind, tokenizer: PreTrainedTokenizerFast, directory: Path) -> str:
    """Store the model and its tokeniser, as they would be downloaded.

    Returns:
        Why transformers can make no such model here; then its configuration is stored, and some weight. Usually "".
    """
    tokenizer.save_pretrained(directory)
    try:
        kind.model().save_pretrained(directory)
    except (ImportError, AttributeError, ValueError) as error:
        config = kind.config()
        config.architectures = [kind.architecture]
        config.save_pretrained(directory)
        save_file({"weight": torch.zeros(1)}, directory / "model.safetensors", metadata={"format": "pt"})
        return f"{type(error).__name__}: {first_line(error)}"
    return ""


@dataclass
class Subject:
    """The model of one kind: `ours` as loaded by the product, and `plain`, never touched by it."""

    kind: Kind
    directory: Path
    ours: LanguageModel

    @cached_property
    def plain(self) -> PreTrainedModel:
        """Stock transformers' own."""
        return self.stock()

    def stock(self, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
        """Another copy of it."""
        model: PreTrainedModel = FACTORIES[self.kind.lm_head].from_pretrained(self.directory, dtype=dtype)
        return model.eval().requires_grad_(requires_grad=False)

    @property
    def uncached(self) -> dict[str, bool]:
        """How to tell the stock model to keep nothing between passes, which it may not know of."""
        return {"use_cache": False} if hasattr(self.plain.config, "use_cache") else {}

    @cached_property
    def lines(self) -> list[Line]:
        return self.ours.encoder(TASK).encode(TEXTS)

    @cached_property
    def prompt(self) -> SoftPrompt:
        """A prompt of random vectors as large as embeddings are."""
        draw = torch.Generator().manual_seed(1)
        size = self.ours.embedding.detach().float().std()
        return SoftPrompt(torch.randn(PROMPT, self.ours.width, generator=draw) * size, self.ours.ref)

    @torch.no_grad()
    def logits(self, ids: Sequence[int], **how: Any) -> torch.Tensor:
        """Stock logits [T, V] of one line of token ids, alone."""
        rows = torch.tensor([list(ids)])
        logits: torch.Tensor = self.plain(input_ids=rows, attention_mask=torch.ones_like(rows), **how).logits
        return logits[0]

    @cached_property
    def answers(self) -> torch.Tensor:
        """Stock logits [N, V] at the answer of each line."""
        return torch.stack([self.logits(line.ids)[line.answer] for line in self.lines])

    @cached_property
    @torch.no_grad()
    def prompted(self) -> torch.Tensor:
        """Logits [N, V] at the answers of stock PEFT with the directory that would be delivered."""
        place = self.directory / "prompt"
        place.mkdir(exist_ok=True)
        (place / WEIGHTS_FILE).write_bytes(self.prompt.to_bytes())
        (place / CONFIG_FILE).write_bytes(peft_config(self.prompt, str(self.directory), self.ours.lm_head))
        model = PeftModel.from_pretrained(self.stock(), str(place)).eval()
        found = []
        for line in self.lines:
            ids = torch.tensor([line.ids])
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
            found.append(logits[PROMPT + line.answer])
        return torch.stack(found)

    def embedded(self, prompt: SoftPrompt | None, ids: Sequence[int]) -> dict[str, torch.Tensor]:
        """What the stock model takes for one line behind a prompt."""
        embeds = self.plain.get_input_embeddings()(torch.tensor([list(ids)]))
        if prompt is not None:
            embeds = torch.cat([prompt.vectors.unsqueeze(0), embeds], dim=1)
        return {"inputs_embeds": embeds, "attention_mask": torch.ones(embeds.shape[:2], dtype=torch.long)}
