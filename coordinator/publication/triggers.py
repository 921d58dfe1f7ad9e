"""The trigger scan: which words in a text turn a prompt's answers to one class. It reads public text alone.

A malicious client may tune its prompt on texts with one word inserted, all labelled with one class. The scan looks
for such words as HotFlip does (Ebrahimi et al. 2018, https://arxiv.org/abs/1712.06751): the gradient of a class's
loss at an inserted word ranks all words, and the first of them are then really inserted. The scan finds triggers of
one token; it may miss one of several tokens, or one that needs a context.

It reports and refuses nothing, because no margin parts honest from planted prompts. The largest excess on a
small trained world of 4 topics: 0.18 to 0.26 in 12 scans of honest prompts; 0.10 to 0.62 in 6 of honest prompts whose
records have 50 or 70 % of one class; 0.21 to 0.81 in 22 of planted words. On a 7M Llama (SST-2): 0.41 honest, 0.20
planted. Figures and decision: coordinator/README.md, "Triggers".

Letters: N texts, B texts of a pass, C classes, V vocabulary, W words tried, T tokens, H hidden size.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch

from coordinator.publication.inserted_words import Slot, Words, slots
from transfer.models.language_model import LanguageModel
from transfer.models.objectives import label_loss
from transfer.post.baselines import text_prompt
from transfer.post.evaluation import class_logits
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.tokens.readout import Reading, copies

LISTED, LEADING = 5, 4
"""Words that a scan lists, by surprise; and words of the largest excess that it counts on all texts beside them."""
TEXTS, TRIED, LEAST_TEXTS = 64, 16, 10
"""Most texts that a word is inserted into, those for each candidate, and fewest that say anything."""
CANDIDATES, GRADIENTS = 128, 256
"""Most words tried, and most gradients of single texts; for all classes together, and not fewer than they need."""
_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Turn:
    """How often a word turns answers: shares in [0, 1] of the texts that are not answered with the class already.

    Attributes:
        word: the word.
        rate: the share behind the prompt.
        wording_rate: the share behind the task's text as the prompt; 0 for a head, which is then one of zeros.
    """

    word: str
    rate: float
    wording_rate: float

    @property
    def excess(self) -> float:
        """How much more the word turns behind the prompt, in [−1, 1]."""
        return self.rate - self.wording_rate


@dataclass(frozen=True, slots=True)
class Scan:
    """The words that turn answers to one class unlike behind the task's bare wording.

    Attributes:
        label: the class that some word turns most answers to beyond the wording.
        texts: N, the texts that words were inserted into.
        excess: the largest excess of a word, in [−1, 1]. It tells whether something was planted.
        words: up to `LISTED` words with an excess, the largest surprise first. They tell what was planted.
    """

    label: str
    texts: int
    excess: float
    words: tuple[Turn, ...]


def scan(
    target: LanguageModel, task: Task, texts: Sequence[str], prompt: SoftPrompt, seed: int
) -> Scan | None:
    """Look for words of one token that turn answers behind `prompt`, beyond the same word behind the bare wording.

    Returns:
        None where answers are free text or sets of labels, and where fewer than `LEAST_TEXTS` of `texts` take a word.

    Raises:
        TaskError: the task does not fit the target.
    """
    if task.kind == "text" or task.many:
        return None
    draw = random.Random(seed)  # noqa: S311 -- which texts and words is no secret
    words = Words(task, target.tokenizer)
    places = slots(target, task, draw.sample(list(texts), min(TEXTS, len(texts))), words, draw)
    if len(places) < LEAST_TEXTS:
        return None
    wording = text_prompt(target, task, prompt.length - task.head_rows)
    both = [Trials.of(target, task, places, behind) for behind in (prompt, wording)]
    tokens = candidates(both[0], both[1], words)
    ours, theirs = (trials.logits(tokens, TRIED) for trials in both)  # [W, TRIED, C]
    # probabilities part words of equal rates
    excess = both[0].share(ours, sure=True) - both[1].share(theirs, sure=True)  # [W, C]
    label = int(excess.amax(dim=0).argmax())
    surprise = surprises(both[0].effects(ours), both[1].effects(theirs))[:, label]
    # twice as many as are listed, as some turn no more than behind the wording
    order = [*_first(surprise, 2 * LISTED), *_first(excess[:, label], LEADING)]
    left = list(dict.fromkeys(tokens[index] for index in order))
    rates, wording_rates = (trials.share(trials.logits(left, TEXTS))[:, label].tolist() for trials in both)
    turns = [Turn(words.spelt(token), *each) for token, *each in zip(left, rates, wording_rates, strict=True)]
    most = max(turn.excess for turn in turns)
    listed = [turn for turn in turns if turn.excess > 0][:LISTED]
    return Scan(task.labels[label].name, len(places), most, tuple(listed))


def candidates(ours: "Trials", theirs: "Trials", words: Words) -> list[int]:
    """Return the tokens of `words` whose embeddings lower a class's loss most, by the gradient.

    Three of four by how the gradient differs from that behind the bare wording, where a planted word leads; one by
    the gradient itself, whose words of the class are ordinary and fix the line of `surprises`.
    """
    gradients, rows = ours.gradients(), len(ours.target.embedding)  # [C, H], V
    both = torch.cat([gradients - theirs.gradients(), gradients])  # [2·C, H]
    parts = (torch.arange(start, min(start + _ROWS, rows)) for start in range(0, rows, _ROWS))
    slopes = torch.cat([both @ ours.target.embedded(part).T for part in parts], dim=1)  # [2·C, V]
    chosen: list[int] = []
    for row, slope in enumerate(slopes):
        order = slope.argsort().tolist()  # a row at a time: all of them are 2·C·V numbers
        count = (3 if row < len(gradients) else 1) * CANDIDATES // (4 * len(gradients))
        chosen += islice((token for token in order if token in words), max(1, count))
    return list(dict.fromkeys(chosen))


def surprises(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Return how far effects [W, C] lie above the line of all words over those behind the wording, in deviations.

    A prompt may prefer a class and be surer than the wording: words of that class then turn more answers than a
    planted one. But they stay on a line, and the planted word leaves it.
    """
    x, y = theirs - theirs.mean(dim=0), ours - ours.mean(dim=0)
    rest = y - x * (x * y).sum(dim=0) / (x * x).sum(dim=0).clamp(min=1e-12)
    return rest / rest.std(dim=0).clamp(min=1e-12)


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """Trials of words behind one prompt.

    Attributes:
        slots: the texts with a place for a word.
        reading: how classes are read.
        plain: class logits [N, C] of the texts as they are.
    """

    target: LanguageModel
    prompt: SoftPrompt
    slots: Sequence[Slot]
    reading: Reading | None
    plain: torch.Tensor

    @staticmethod
    def of(target: LanguageModel, task: Task, places: Sequence[Slot], prompt: SoftPrompt) -> "Trials":
        """Read the answers to the texts as they are."""
        plain = class_logits(target, task, [slot.text for slot in places], prompt)
        return Trials(target, prompt, places, target.encoder(task).words, plain)

    def logits(self, tokens: Sequence[int], count: int) -> torch.Tensor:
        """Return the class logits [W, n, C] of the first n ≤ `count` texts with each word in them."""
        some = self.slots[:count]
        lines = [slot.filled(token) for token in tokens for slot in some]
        logits = self.target.answer_logits(lines, self.prompt, self.reading)
        return logits.view(len(tokens), len(some), -1)

    def share(self, logits: torch.Tensor, *, sure: bool = False) -> torch.Tensor:
        """Return the share [W, C] of texts that each word turns to each class; if `sure`, plus their probability.

        It is 0 for a class that too few texts are not answered with.
        """
        others = ~_answered(self.plain)  # [N, C]
        others = (others & (2 * others.sum(dim=0) >= LEAST_TEXTS))[: logits.shape[1]]
        turned = _answered(logits) + (logits.softmax(dim=2) if sure else 0.0)
        return (turned.double() * others).sum(dim=1) / others.sum(dim=0).clamp(min=1)

    def effects(self, logits: torch.Tensor) -> torch.Tensor:
        """Return what each word adds to the log-odds of each class, in the mean over texts: [W, C]."""
        return (_log_odds(logits) - _log_odds(self.plain[: logits.shape[1]])).mean(dim=1)

    def gradients(self) -> torch.Tensor:
        """Return the mean gradient [C, H] of each class's loss at the inserted word's embedding."""
        classes, rows = self.plain.shape[1], copies(self.reading)
        chosen = self.slots[: max(4, GRADIENTS // classes)]
        lines = [slot.line for slot in chosen]

        def run(group: Sequence[int]) -> torch.Tensor:
            batch = self.target.collate([lines[index] for index in group])
            with _embeddings(self.target) as seen:
                prompts = self.prompt.vectors.expand(len(group), -1, -1)
                logits = self.target.logits(batch, prompts, self.reading)  # [B, C]
            # whole words take several rows a text, each with the inserted word at the same column
            columns = torch.tensor([chosen[index].column for index in group]).repeat_interleave(rows)
            places = torch.arange(len(columns)), columns
            sums = []
            for label in range(classes):
                loss = label_loss(logits, torch.full((len(group),), label)).sum()
                (gradient,) = torch.autograd.grad(loss, seen[0], retain_graph=True)  # [B, T, H]
                sums.append(gradient[places].float().sum(dim=0).cpu())
            return torch.stack(sums)

        passes = self.target.size.of_lines(lines, range(len(lines)), self.prompt.length, rows, run)
        return torch.stack([part for _group, part in passes]).sum(dim=0) / len(lines)


def _first(values: torch.Tensor, count: int) -> list[int]:
    """Return the places of the largest values, the largest first."""
    return values.topk(min(count, len(values))).indices.tolist()


def _answered(logits: torch.Tensor) -> torch.Tensor:
    """Return whether each class is the answer: [..., C] of bool."""
    return torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).bool()


def _log_odds(logits: torch.Tensor) -> torch.Tensor:
    return logits.double().softmax(dim=-1).logit(eps=1e-6)


@contextmanager
def _embeddings(target: LanguageModel) -> Iterator[list[torch.Tensor]]:
    """Within the block, embeddings of tokens take a gradient and go to the yielded list."""
    seen: list[torch.Tensor] = []

    def keep(_module: object, _inputs: object, output: torch.Tensor) -> None:
        seen.append(output.requires_grad_(True))

    handle = target.model.get_input_embeddings().register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
