"""Whether a task can be asked of a model at all."""

from transfer.errors import TaskError
from transfer.model_ref import LmHead
from transfer.tasks import Task


def readable(task: Task, name: str, lm_head: LmHead, width: int, state_width: int) -> None:
    """Refuse a task whose answers the model `name` has no way to give.

    Its embeddings have `width` numbers, its last hidden states `state_width`.

    Raises:
        TaskError: it needs an LM head, and there is none; or a head that would be wider than the prompt.
    """
    if lm_head == "none" and not task.head_rows:
        asked = f'kind "{task.kind}"' if task.kind == "text" else f'label_reading "{task.label_reading}"'
        raise TaskError(
            f"task {task.name!r}: {asked} needs a language-model head, model {name!r} has none; write "
            'label_reading = "head", no {answer} in the template, and empty lists of label words'
        )
    if task.head_rows and state_width != width:
        raise TaskError(
            f'task {task.name!r}: label_reading "head" reads states as wide as embeddings, which those of model '
            f"{name!r} are not ({state_width} and {width}); write label words"
        )
