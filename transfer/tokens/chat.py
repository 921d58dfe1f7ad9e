"""A task's line as a tokeniser's chat template writes it.

The template runs on words of our own in place of a text and an answer, never on a record, so no record can change
what it writes around it.
"""

import hashlib
from dataclasses import astuple, dataclass
from datetime import UTC, datetime

from transformers import PreTrainedTokenizerBase

from transfer.errors import TaskError
from transfer.tasks import Task

TEXT, ANSWER = "promptferry-text", "promptferry-answer"
"""Words that stand for a text and an answer while a template is run."""
DAY = datetime(2024, 7, 26, tzinfo=UTC)
"""What a template that writes today's date is told: a line must not change overnight. Llama 3.1's own default."""
_FORMATS = {
    f"%{flag}{letter}": DAY.strftime(f"%{flag}{letter}")
    for letter in "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ"
    for flag in ("", "-")
}
_CLOCK = (  # in a template's own language, because transformers hands no function in
    "{% macro strftime_now(format) %}{% set told = namespace(text=format | replace('%%', '\x00')) %}{% for each in "
    f"{list(_FORMATS.items())!r}"
    " %}{% set told.text = told.text | replace(each[0], each[1]) %}{% endfor %}"
    "{% if '%' in told.text %}{{ raise_exception('unknown date format ' ~ format) }}{% endif %}"
    "{{ told.text | replace('\x00', '%') }}{% endmacro %}\n"  # a line of its own, whose end a block swallows
)
"""The clock of a template, which knows every format of C's."""
_PROBE = "Probe \"a\" & 'b' <c>\n\n  {{ d }} {% e %} \\n \t%% é ß 名 👩 " + "long " * 100 + "End"
"""What a chat template must keep: quotes, marks of other languages, white space within, and length."""
_LONGEST_REASON = 200

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class ChatLine:
    """The parts of a line around a text and around an answer.

    Attributes:
        before: the line before the text.
        behind: the line behind the text, up to where the assistant's answer begins.
        empty: the line of an empty text; a template may strip spaces that stood beside the text.
        turn: number of characters before what the user says, template included.
        gap: spaces that an assistant's turn has before its answer.
        after: what follows an answer, from the end of the assistant's turn on.
    """

    before: str
    behind: str
    empty: str
    turn: int
    gap: str
    after: str

    @staticmethod
    def of(task: Task, tokenizer: PreTrainedTokenizerBase) -> "ChatLine":
        """Run the chat template for a chat task.

        Raises:
            TaskError: there is no chat template, it takes no system turn, or it does not keep what a turn says.
        """
        said = task.template.partition("{answer}")[0].rstrip()
        messages = _messages(task, said.replace("{text}", TEXT))
        line = _written(task, tokenizer, messages)
        content = messages[-1]["content"].strip()
        probed = _written(task, tokenizer, _messages(task, said.replace("{text}", _PROBE)))
        if line.count(content) != 1 or line.count(TEXT) != 1 or probed != line.replace(TEXT, _PROBE):
            raise _error(
                task,
                "the chat template changes, cuts or repeats the user's turn; take a model with another one",
            )
        if task.system not in line:
            raise _error(
                task, "the chat template leaves the system turn out; put what system says into the template"
            )
        before, _, behind = line.partition(TEXT)
        empty = _messages(task, said.replace("{text}", ""))
        gap, after = _around_answer(task, tokenizer, messages, line)
        return ChatLine(
            before=before,
            behind=behind,
            empty=_written(task, tokenizer, empty),
            turn=line.index(content),
            gap=gap,
            after=after,
        )

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of all that the chat template writes."""
        return hashlib.sha256(repr(astuple(self)).encode()).hexdigest()


def _messages(task: Task, user: str) -> Messages:
    system = [{"role": "system", "content": task.system}] if task.system else []
    return [*system, {"role": "user", "content": user}]


def _around_answer(
    task: Task, tokenizer: PreTrainedTokenizerBase, messages: Messages, line: str
) -> tuple[str, str]:
    """Return what stands around an answer in the assistant's turn.

    Before it only spaces count: anything else is the model's own to write, such as an empty thought.
    """
    answered = [*messages, {"role": "assistant", "content": ANSWER}]
    whole = _written(task, tokenizer, answered)
    before, found, after = whole.rpartition(ANSWER)
    gap = before.removeprefix(line)
    return (gap if found and before == line + gap and gap.isspace() else ""), (after if found else "")


def _written(task: Task, tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    """Return what the chat template makes of `messages`; the start of an answer is behind a user's."""
    try:
        return str(
            tokenizer.apply_chat_template(
                messages,
                chat_template=_CLOCK + tokenizer.get_chat_template(),
                add_generation_prompt=messages[-1]["role"] == "user",
                tokenize=False,
            )
        )
    except Exception as error:  # a template is a foreign program
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        remedy = "put what system says into the template, and leave system out"
        remedy = remedy if task.system else "leave chat out"
        raise _error(task, f"the chat template refuses the task's turns ({reason}); {remedy}") from error


def _error(task: Task, rule: str) -> TaskError:
    return TaskError(f"task {task.name!r}: {rule}")
