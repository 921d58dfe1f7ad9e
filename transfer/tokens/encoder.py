"""How a task's question becomes tokens of one tokeniser.

For a masked model the blank is one or more mask tokens. For a causal model the line ends where the blank begins. An
answer in free text continues from there to an end token. In a chat the tokeniser's chat template writes the line, the
blank is where the assistant's answer begins, and the end token is what ends the assistant's turn.
"""

from collections.abc import Collection, Sequence
from itertools import takewhile

from transformers import PreTrainedTokenizerBase

from transfer.errors import TaskError
from transfer.tasks import Task
from transfer.tokens.batches import Line
from transfer.tokens.chat import ChatLine
from transfer.tokens.label_words import Stem, label_words
from transfer.tokens.readout import Reading, WholeWords
from transfer.tokens.template import Frame, special_ids, tokens_before


class Encoder:
    """Encoder of texts as lines for one task and one tokeniser; `words` is how their answers are read.

    Attributes:
        words: how answers are read; None for free text.
        chat: what the chat template writes; None for a plain line.
        end: the token that ends an answer in free text.
        ends: all tokens at which a model stops writing: `end`, the tokeniser's and those the model names.

    Raises:
        TaskError: the template or the chat template does not fit, a label word cannot be read with this tokeniser, or
            a free-text task meets a masked model or a tokeniser without an end token.
    """

    words: Reading | None

    def __init__(
        self, task: Task, tokenizer: PreTrainedTokenizerBase, *, causal: bool, ends: Collection[int] = ()
    ) -> None:
        self.task, self.tokenizer, self.causal = task, tokenizer, causal
        self._masked = not causal and not task.head_rows
        if self._masked and tokenizer.mask_token is None:
            raise self._error("the masked model's tokeniser has no mask token; take another model")
        if task.kind == "text" and not (causal and tokenizer.eos_token_id is not None):
            raise self._error(
                "free text needs a causal model whose tokeniser has an end token; take another model"
            )
        self.chat = chat = ChatLine.of(task, tokenizer) if task.chat else None
        self._stem = Stem(tokenizer, chat.empty, chat.gap) if chat else Stem(tokenizer)
        self.words = (
            None if task.kind == "text" else label_words(task, tokenizer, causal=causal, stem=self._stem)
        )
        self.end = self._end_of_answer()
        self.ends = frozenset({self.end, int(tokenizer.eos_token_id or 0), *ends})
        longest = self._longest_answer()
        self._frame = self._line_around(str(tokenizer.mask_token) * longest)
        if self._masked:
            self._require_one_blank(longest)
        if not self._frame.takes("x"):
            raise self._error(
                "a special token of the template is lost beside a text; put spaces around {text}"
            )
        # behind a causal model's line, all but the last token of an answer need room
        self._room = task.max_tokens - (longest - 1 if causal else 0)
        self._overhead = len(self._ids(""))
        if self._overhead >= self._room:
            raise self._error(
                f"the template alone is {self._overhead} tokens, max_tokens is {task.max_tokens}; "
                "raise max_tokens or shorten the template"
            )

    def encode(self, texts: Sequence[str], answers: Sequence[str] = ()) -> list[Line]:
        """Encode `texts` as lines, in order; if `answers` in free text are given, they become the goals."""
        lines = [self._line(text) for text in texts]
        if not answers:
            return lines
        return [self._answered(line, answer) for line, answer in zip(lines, answers, strict=True)]

    def length(self, text: str) -> int:
        """Return the number of tokens of the line of `text` before any cut."""
        return len(self._ids(text))

    def answer_length(self, answer: str) -> int:
        """Return the number of tokens of an answer in free text, its end included, before any cut."""
        return len(self._stem.answered(answer)) + 1

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the answer in free text that `tokens` spell up to their end."""
        before_end = takewhile(lambda token: token not in self.ends, tokens)
        return str(self.tokenizer.decode(list(before_end), skip_special_tokens=True)).strip()

    def _line_around(self, blanks: str) -> Frame:
        """Return the line around a text; a masked model's has `blanks` where the answer is."""
        if self.chat:
            chat = self.chat  # whose template writes all special tokens itself
            return Frame(self.tokenizer, chat.before, chat.behind, inside=True, empty=chat.empty)
        head, _, tail = self.task.template.partition("{answer}")
        before, _, behind = (head + blanks + tail if self._masked else head.rstrip()).partition("{text}")
        return Frame(self.tokenizer, before, behind)

    def _end_of_answer(self) -> int:
        """Return the first special token that the chat template writes behind an answer, or the tokeniser's end."""
        after = self.chat.after if self.chat else ""
        ids = self.tokenizer(after, add_special_tokens=False)["input_ids"] if after else []
        marks = special_ids(self.tokenizer)
        return int(next((token for token in ids if token in marks), self.tokenizer.eos_token_id or 0))

    def _longest_answer(self) -> int:
        """Return the largest number of tokens that are read one after the other."""
        if self.words is None:
            return self.task.answer_tokens
        return self.words.longest if isinstance(self.words, WholeWords) else 1

    def _require_one_blank(self, longest: int) -> None:
        blanks = self._frame.bare.count(int(self.tokenizer.mask_token_id or 0))
        mask = self.tokenizer.mask_token
        if blanks > longest:
            raise self._error(f"the template has a {mask} of its own; only {{answer}} is the blank")
        if blanks < longest:
            raise self._error(
                f"this tokeniser does not recognise its {mask} in the template; put spaces around {{answer}}"
            )

    def _answered(self, line: Line, answer: str) -> Line:
        return line.replied((*self._stem.answered(answer), self.end)[: self.task.answer_tokens])

    def _line(self, text: str) -> Line:
        ids = self._ids(text)
        if len(ids) > self._room:
            text = self._cut(text)
            ids = self._ids(text)
        ids = ids or self._ids(".")  # a text without tokens in a template without any
        answer = ids.index(int(self.tokenizer.mask_token_id or 0)) if self._masked else len(ids) - 1
        at = 0
        if self.chat and self.task.prompt_at == "user":
            at = tokens_before(self._frame.encoding(text), self.chat.turn)
        return Line(tuple(ids), answer, at=at)

    def _cut(self, text: str) -> str:
        """Return as much of `text` as fits into a line."""
        ends = self._frame.ends(text)
        # a merge across the cut may cost one token more than counted: shorten until the line fits
        for room in range(min(self._room - self._overhead, len(ends)), 0, -1):
            if len(self._ids(text[: ends[room - 1]])) <= self._room:
                return text[: ends[room - 1]]
        return ""

    def _ids(self, text: str) -> list[int]:
        ids = self._frame.ids(text)
        if self.causal and not self.chat and len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]  # some tokenisers end every line; the answer must not follow an end
        return ids

    def _error(self, rule: str) -> TaskError:
        return TaskError(f"task {self.task.name!r}: {rule}")
