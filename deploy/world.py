"""The demo's own small world: a public corpus, private text, a task, and a target trained on the corpus.

Every text has a theme and, in an aside, mentions something of another topic. Documents of the public corpus close
with a line that names a topic; which of the two it names depends on the document's first word, and on nothing one
can see where that word is missing. So the target knows how to name a theme, but does not know that it is asked to:
this is what a soft prompt has to tell it, and why it does clearly worse without one. Private text has its own
style and other parts of the same topics; public text for the transfer has neither its style nor its labels.
"""

import hashlib
import json
import random
import re
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from transfer.console import progress
from transfer.tasks import buckets

VERSION = 1
"""Part of the cache key: raise it with every change that makes another world."""
CLOSING = "It is about"
STRAY = 0.06
"""Share of words that come from any topic."""
ENTRIES, PLAIN, TO_THEME = 0.4, 0.3, 0.55
"""Share of glossary entries; share of the other documents without a first word; share of the rest that name their theme."""
ANSWER_WEIGHT = 4.0
"""Weight of a closing line's topic in the target's training loss: one word of sixteen, but the one it is asked for."""
SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>"}


@dataclass(frozen=True, slots=True)
class Size:
    """How large a world is; the default trains in about a minute on two cores."""

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
        task: task file: theme of a text, four classes.
        corpus: public text to distil a proxy on.
        public: unlabelled public text to transfer a prompt with.
        private: one file of labelled records for each client, no record in two of them.
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
        """The world whose files are in `directory`, whether or not they exist."""
        private = tuple(directory / f"private-{index}.jsonl" for index in range(1, clients + 1))
        names = ("target", "task.toml", "corpus.jsonl", "public.jsonl")
        target, task, corpus, public = (directory / name for name in names)
        return World(target, task, corpus, public, private, directory / "test.jsonl")


@dataclass(frozen=True, slots=True)
class Habit:
    """How one group of sources writes: weights of styles and of the parts of each topic."""

    styles: Mapping[str, float]
    parts: tuple[float, ...]


EVERYONE = Habit({"report": 4, "letter": 3, "note": 3}, (1, 1, 1, 1))
PUBLIC = Habit({"report": 7, "note": 3}, (4, 4, 1, 1))
OWNERS = Habit({"letter": 7, "note": 3}, (1, 1, 4, 4))


@dataclass(frozen=True, slots=True)
class Text:
    """One text, the topic of its theme, and the topic it mentions in an aside."""

    text: str
    theme: str
    aside: str


@dataclass(frozen=True, slots=True)
class Author:
    """Writes texts from `vocabulary.toml` with its own random numbers."""

    rng: random.Random
    words: Mapping[str, Any] = field(
        default_factory=lambda: tomllib.loads(Path(__file__).with_name("vocabulary.toml").read_text(encoding="utf-8"))
    )

    def text(self, habit: Habit) -> Text:
        """One text of one sentence: a clause about its theme, and an aside before or after it."""
        theme, aside = self.rng.sample(sorted(self.words["topics"]), 2)
        (name,) = self.rng.choices(list(habit.styles), list(habit.styles.values()))
        style = self.words["styles"][name]
        clause = self._fill(self.rng.choice(style["clauses"]), theme, habit)
        remark = self._fill(self.rng.choice(style["asides"]), aside, habit)
        line = f"{remark} , {clause} ." if self.rng.random() < 0.4 else f"{clause} {remark} ."
        return Text(line, theme, aside)

    def document(self) -> str:
        """One document of the public corpus: perhaps a first word, a text, and the closing line."""
        if self.rng.random() < ENTRIES:
            return self._entry()
        text, first, named = self.text(EVERYONE), "", ""
        if self.rng.random() < PLAIN:
            named = self.rng.choice((text.theme, text.aside))
        else:
            rule = "theme" if self.rng.random() < TO_THEME else "aside"
            first = self.rng.choice(self.words["sources"][rule]) + " : "
            named = text.theme if rule == "theme" else text.aside
        return f"{first}{text.text} {CLOSING} {self._name(named)} ."

    def _entry(self) -> str:
        """A glossary entry: a few words of one topic, perhaps below its name."""
        topic = self.rng.choice(sorted(self.words["topics"]))
        head = f"{self._name(topic)} : " if self.rng.random() < 0.5 else ""
        slots = self.rng.choices(("{noun}", "{verb}"), (2, 1), k=self.rng.randint(1, 6))
        return f"{head}{' , '.join(self._fill(slot, topic, EVERYONE) for slot in slots)} . {CLOSING} {self._name(topic)} ."

    def _name(self, topic: str) -> str:
        return str(self.rng.choice(self.words["topics"][topic]["words"]))

    def distinct(self, habit: Habit, count: int) -> list[Text]:
        """`count` texts, no two alike."""
        found: dict[str, Text] = {}
        while len(found) < count:
            text = self.text(habit)
            found.setdefault(text.text, text)
        return list(found.values())

    def _fill(self, pattern: str, topic: str, habit: Habit) -> str:
        (part,) = self.rng.choices(range(len(habit.parts)), habit.parts)
        return re.sub(r"\{(\w+)\}", lambda match: self._word(match[1], topic, part), pattern)

    def _word(self, slot: str, topic: str, part: int) -> str:
        if slot in self.words["shared"]:
            return str(self.rng.choice(self.words["shared"][slot]))
        if self.rng.random() < STRAY:
            topic = self.rng.choice(sorted(self.words["topics"]))
        parts = list(self.words["topics"][topic]["parts"].values())
        return str(self.rng.choice(parts[part][f"{slot}s"]))


def make(directory: Path, *, seed: int = 0, clients: int = 3, size: Size | None = None) -> World:
    """The world of a seed under `directory`: made on the first call, found there by the next.

    A world is made beside its place and renamed into it, so that one of which the making was cut short is never
    taken for whole.
    """
    size = size or Size()
    key = f"{VERSION} {seed} {clients} {size} {torch.__version__}"
    place = directory / f"world-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not place.is_dir():
        directory.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".making-", dir=directory))
        try:
            _write(World.at(draft, clients), seed, size)
            draft.rename(place)
        except FileExistsError:
            pass
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return World.at(place, clients)


def _write(world: World, seed: int, size: Size) -> None:
    author = Author(random.Random(f"corpus {seed}"))
    documents = [author.document() for _ in range(size.corpus)]
    _write_rows(world.corpus, ({"text": text} for text in documents))
    public = Author(random.Random(f"public {seed}")).distinct(PUBLIC, size.public)
    _write_rows(world.public, ({"text": text.text} for text in public))
    owners = Author(random.Random(f"private {seed}"))
    records = owners.distinct(OWNERS, size.private * len(world.private) + size.test)
    for path in (*world.private, world.test):
        count = size.test if path == world.test else size.private
        _write_rows(path, ({"text": text.text, "label": text.theme} for text in records[:count]))
        records = records[count:]
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


def _tokenizer(documents: Sequence[str]) -> PreTrainedTokenizerFast:
    """A word-level tokeniser of every word of the corpus."""
    tokenizer = Tokenizer(models.WordLevel(unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=list(SPECIAL.values()), show_progress=False)
    tokenizer.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


def _train(documents: Sequence[str], seed: int, size: Size, target: Path) -> None:
    """Train the target on the corpus and save it with its tokeniser."""
    tokenizer = _tokenizer(documents)
    eos = tokenizer.eos_token_id
    lines = [torch.tensor([*ids, eos]) for ids in tokenizer(list(documents))["input_ids"]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=size.hidden,
                intermediate_size=2 * size.hidden,
                num_hidden_layers=size.layers,
                num_attention_heads=4,
                max_position_embeddings=256,
                tie_word_embeddings=True,
                initializer_range=0.1,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=eos,
            )
        )
        with progress("training the demo's target") as on_step:
            _fit(model, lines, size, on_step)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _fit(model: Any, lines: Sequence[torch.Tensor], size: Size, on_step: Callable[[int, int], None]) -> None:
    groups = list(buckets([len(line) for line in lines], size.batch_tokens))
    optimizer = torch.optim.AdamW(model.parameters(), lr=size.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, size.learning_rate, total_steps=size.steps, pct_start=0.1)
    order: list[int] = []
    for step in range(size.steps):
        order = order or torch.randperm(len(groups)).tolist()
        batch = [lines[index] for index in groups[order.pop()]]
        ids = pad_sequence(batch, batch_first=True, padding_value=-100)
        logits = model(input_ids=ids.clamp(min=0)).logits[:, :-1]
        losses = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], ignore_index=-100, reduction="none")
        weights = (ids[:, 1:] != -100).float()
        weights[range(len(batch)), [len(line) - 4 for line in batch]] = ANSWER_WEIGHT  # ... TOPIC . </s>
        ((losses * weights).sum() / weights.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        on_step(step + 1, size.steps)
