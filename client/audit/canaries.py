"""Canaries: records of which each moves one coordinate of its own, by exactly the clipping norm.

Proxy, task and data set are real files, so that the whole daemon is audited as it is shipped. The proxy is a Llama
whose layer adds nothing and which embeds word i as unit vector i; a head reads the task. With a head of zeros, the
gradient of the record "word i" is ±½ at coordinate i of the head's two rows and 0 elsewhere. This is a Dirac
gradient, which no other record changes.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from client.audit.bounds import Flags, Scores
from transfer.model_ref import ModelRef
from transfer.prompt import SoftPrompt
from transfer.tasks import Label, Task

PROXY = "canary"
LABELS = Label("sings", ()), Label("silent", ())
TASK = Task("canaries", "{text}", LABELS, "canary0", max_tokens=8, label_reading="head")
ADAM_EPSILON = 1e-8
"""PyTorch's default. For a gradient far below it, Adam's first step is proportional to the gradient."""
LINEAR = 1e-3
"""The noise of one coordinate in units of `ADAM_EPSILON`."""


@dataclass(frozen=True, slots=True)
class CanaryProxy:
    """The proxy on disk, with the start and the clipping norm of its rounds.

    Attributes:
        model: the reference in a request.
        canaries: M, number of words and coordinates.
    """

    model: ModelRef
    canaries: int

    @staticmethod
    def make(directory: Path, canaries: int) -> "CanaryProxy":
        """Write the proxy into `directory`, as one of a client's proxies."""
        place = directory / PROXY
        special = ["<pad>", "<s>", "</s>"]
        words = [*special, *(_word(index) for index in range(canaries))]
        tokenizer = Tokenizer(
            models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=special[0])
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        config = LlamaConfig(
            vocab_size=len(words),
            hidden_size=canaries,
            intermediate_size=1,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=2,
            max_position_embeddings=16,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
        model = LlamaForCausalLM(config)
        with torch.no_grad():
            # [V, M]: row 3 + i is unit vector i, the special tokens take the rows that are left
            model.model.embed_tokens.weight.copy_(torch.eye(len(words), canaries).roll(len(special), 0))
            model.model.layers[0].self_attn.o_proj.weight.zero_()
            model.model.layers[0].mlp.down_proj.weight.zero_()
        model.save_pretrained(place)
        tokens = dict(zip(("pad_token", "bos_token", "eos_token"), special, strict=True))
        fast: Any = PreTrainedTokenizerFast
        fast(tokenizer_object=tokenizer, **tokens).save_pretrained(place)
        return CanaryProxy(ModelRef.of_directory(PROXY, place), canaries)

    def start(self) -> SoftPrompt:
        """Return one prompt token and a head of two rows, all zeros, which contain no canary."""
        return SoftPrompt(torch.zeros(1 + TASK.head_rows, self.canaries), self.model)

    def clip_norm(self, noise: float) -> float:
        """Return a clipping norm so small that Adam's first step is proportional to the noised gradient.

        Adam divides by |gradient| + `ADAM_EPSILON`. With M declared records and q = 1, noise and canary are at most
        `LINEAR` times `ADAM_EPSILON`. Each canary's own gradient has norm 0.7 and is clipped to this norm.
        """
        return LINEAR * ADAM_EPSILON * self.canaries / max(1.0, noise)

    def heard(self, released: SoftPrompt, clip_norm: float, learning_rate: float) -> Scores:
        """Return the scores [M]: how far the released head moved in each canary's direction, in clipped canaries."""
        rows = released.vectors.double().numpy()[-TASK.head_rows :]
        unit = learning_rate * clip_norm / (self.canaries * ADAM_EPSILON)
        scores: Scores = (rows[0] - rows[1]) / (math.sqrt(2) * unit)
        return scores


def write_records(path: Path, included: Flags) -> None:
    """Write a data set of the included canaries: one record each, all of the first class."""
    lines = [json.dumps({"text": _word(int(i)), "label": 0}) for i in np.flatnonzero(included)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _word(index: int) -> str:
    return f"canary{index}"
