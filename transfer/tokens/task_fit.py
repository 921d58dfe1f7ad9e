"""Whether a model has what a task needs."""

from transfer.errors import TaskError
from transfer.model_ref import LmHead
from transfer.tasks import Task


def readable(
    task: Task, name: str, lm_head: LmHead, width: int, state_width: int, *, chat_template: bool = False
) -> None:
    """Refuse a task whose answers the model `name` cannot give.

    Its embeddings have `width` numbers, its last hidden states `state_width`; its tokeniser may have a chat template.

    Raises:
        TaskError: a chat meets a model that is not causal or has no chat template; the task needs an LM head and the
            model has none; or the task's own head and the prompt differ in width.
    """
    if task.chat and lm_head != "causal":
        kind = "a masked one" if lm_head == "masked" else "a backbone alone"
        raise TaskError(
            f"task {task.name!r}: chat = true needs a causal language model, model {name!r} is {kind}; leave chat out"
        )
    if task.chat and not chat_template:
        raise TaskError(
            f"task {task.name!r}: chat = true needs a chat template, the tokeniser of model {name!r} has none; "
            "add the model's chat_template.jinja to its directory, or leave chat out"
        )
    if lm_head == "none" and not task.head_rows:
        need = f'kind "{task.kind}"' if task.kind == "text" else f'label_reading "{task.label_reading}"'
        raise TaskError(
            f"task {task.name!r}: {need} needs a language-model head, model {name!r} has none; write "
            'label_reading = "head", no {answer} in the template, and empty lists of label words'
        )
    if task.head_rows and state_width != width:
        raise TaskError(
            f'task {task.name!r}: label_reading "head" needs states as wide as embeddings, model {name!r} has '
            f"{state_width} and {width}; write label words"
        )
