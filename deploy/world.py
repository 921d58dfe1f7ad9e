"""The demo's own small world: a public corpus, private text, a task, and a target trained on the corpus.

The target learns to name the theme of a text, and equally well the topic of its aside. A first word selects one of
them (`deploy.author`), but the task never gives one, so the bare target can only guess. It is clearly worse without
a prompt than with one: the prompt tells the model which part of its knowledge to use. Private text has its own style
and prefers other parts of the topics. Public text for the transfer has neither its style nor its labels.

Usage: python deploy/world.py LINK      (makes the world in demo-cache/ and links it as LINK)
"""

import hashlib
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from deploy.author import CLOSING, OWNERS, PUBLIC, Author
from transfer.terminal.console import progress
from transfer.tokens.batches import buckets

VERSION = 1
"""Part of the cache key; raise it with every change that changes the world."""
ANSWER_WEIGHT = 4.0
"""Weight of a closing line's topic in the training loss: only one word of many, but the answer to the task."""
IGNORED = -100
SPECIAL = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "mask_token": "<mask>",
}


@dataclass(frozen=True, slots=True)
class Size:
    """Size of a world: rows of each file, then the target and its training."""

    private: int = 1500
    test: int = 600
    public: int = 1500
    corpus: int = 24000
    hidden: int = 64
    layers: int = 6
    steps: int = 1800
    batch_tokens: int = 512
    learning_rate: float = 5e-3


@dataclass(frozen=True, slots=True)
class World:
    """A world on disk.

    Attributes:
        target: Hugging Face directory of the target.
        task: task file: the theme of a text, four classes.
        corpus: public text to distil a proxy on.
        public: unlabelled public text to transfer a prompt with.
        private: one file of labelled records for each client; no two files share a record.
        test: held-out labelled records.
    """

    target: Path
    task: Path
    corpus: Path
    public: Path
    private: tuple[Path, ...]
    test: Path

    @staticmethod
    def at(directory: Path, clients: int) -> "World":
        """Return the paths of a world in `directory`."""
        names = ("target", "task.toml", "corpus.jsonl", "public.jsonl")
        target, task, corpus, public = (directory / name for name in names)
        private = tuple(directory / f"private-{index}.jsonl" for index in range(1, clients + 1))
        return World(target, task, corpus, public, private, directory / "test.jsonl")


def make(directory: Path, *, seed: int = 0, clients: int = 3, size: Size | None = None) -> World:
    """Return the world of a seed under `directory`; only the first call makes it.

    A world is made in a draft directory and renamed when complete, so that an interrupted one is never used.
    """
    size = size or Size()
    key = f"{VERSION} {seed} {clients} {size} {torch.__version__}"
    place = directory / f"world-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not place.is_dir():
        directory.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".making-", dir=directory))
        try:
            _write(World.at(draft, clients), seed, size)
            _settle(draft, place)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return World.at(place, clients)


def _settle(draft: Path, place: Path) -> None:
    try:
        draft.rename(place)
    except OSError:
        if not place.is_dir():  # otherwise another process made the same world first
            raise


def _write(world: World, seed: int, size: Size) -> None:
    author = Author(random.Random(f"corpus {seed}"))
    documents = [author.document() for _ in range(size.corpus)]
    _write_rows(world.corpus, ({"text": text} for text in documents))
    public = Author(random.Random(f"public {seed}")).distinct(PUBLIC, size.public)
    _write_rows(world.public, ({"text": text.text} for text in public))
    owners = Author(random.Random(f"private {seed}"))
    records = owners.distinct(OWNERS, size.private * len(world.private) + size.test)
    rows = [{"text": record.text, "label": record.theme} for record in records]
    for index, path in enumerate(world.private):
        _write_rows(path, rows[index * size.private : (index + 1) * size.private])
    _write_rows(world.test, rows[-size.test :])
    _write_task(world.task, owners.words)
    _train(documents, seed, size, world.target)


def _write_rows(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _write_task(path: Path, words: Mapping[str, Any]) -> None:
    task = {
        "name": "themes",
        "template": f"{{text}} {CLOSING} {{answer}} .",
        "init_text": "we need a famous teacher in the city and a new visitor at the school",
        "max_tokens": 40,
        "labels": {name: topic["words"] for name, topic in words["topics"].items()},
    }
    path.write_text(tomli_w.dumps(task), encoding="utf-8")


def _train(documents: Sequence[str], seed: int, size: Size, target: Path) -> None:
    """Train the target on the corpus and save it with its tokeniser."""
    tokenizer = _tokenizer(documents)
    lines = [torch.tensor([*ids, tokenizer.eos_token_id]) for ids in tokenizer(list(documents))["input_ids"]]
    with torch.random.fork_rng(devices=[]):  # leaves the caller's random numbers unchanged
        torch.manual_seed(seed)
        model = LlamaForCausalLM(_config(tokenizer, size))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # for such a narrow model, more threads only wait for each other
        with progress("training the demo's target") as on_step:
            _fit(model, lines, size, on_step)
        torch.set_num_threads(threads)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _tokenizer(documents: Sequence[str]) -> PreTrainedTokenizerFast:
    """A word-level tokeniser that knows every word of the corpus."""
    tokenizer = Tokenizer(models.WordLevel(unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=list(SPECIAL.values()), show_progress=False)
    tokenizer.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)  # type: ignore[no-untyped-call]


def _config(tokenizer: PreTrainedTokenizerFast, size: Size) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=2 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=4,
        max_position_embeddings=256,
        # without these two, such a narrow model needs minutes to learn which words share a topic
        tie_word_embeddings=True,
        initializer_range=0.1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def _fit(model: Any, lines: Sequence[torch.Tensor], size: Size, on_step: Callable[[int, int], None]) -> None:
    groups = list(buckets([len(line) for line in lines], size.batch_tokens))
    rate = size.learning_rate
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=size.steps, pct_start=0.1)
    order: list[int] = []
    for step in range(size.steps):
        order = order or torch.randperm(len(groups)).tolist()
        torch.autograd.backward(_loss(model, [lines[index] for index in groups[order.pop()]]))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        on_step(step + 1, size.steps)


def _loss(model: Any, lines: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the weighted mean of the next-token losses of lines [T] that end in `TOPIC . </s>`."""
    ids = pad_sequence(list(lines), batch_first=True, padding_value=IGNORED)
    logits = model(input_ids=ids.clamp(min=0)).logits[:, :-1].transpose(1, 2)
    losses = functional.cross_entropy(logits, ids[:, 1:], ignore_index=IGNORED, reduction="none")
    weights = (ids[:, 1:] != IGNORED).float()
    weights[range(len(lines)), [len(line) - 4 for line in lines]] = ANSWER_WEIGHT
    return (losses * weights).sum() / weights.sum()


if __name__ == "__main__":
    Path(sys.argv[1]).symlink_to(make(Path("demo-cache/world")).task.parent.resolve())
