"""The work that needs are told for.

Letters: N public texts, C classes, D directions, P prompt tokens, T tokens.
"""

from dataclasses import dataclass

from transfer.post.settings import TransferSettings
from transfer.protocol.tuning_defaults import DIMENSIONS, PROMPT_LENGTH


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked of the models: by default what a plan asks that chooses nothing.

    Attributes:
        texts: N, number of public texts.
        tokens: T, longest line, the task's `max_tokens`.
        prompt: P, of the proxy.
        longer: prompt tokens that the target's prompt has more than P, or fewer.
        classes: C, or 0 for free text.
        answers: positions read of a text: 1, or the task's `answer_tokens`.
        dimensions: D, directions that clients tune in; 0 for all.
        transfer: settings of the transfer.
    """

    texts: int = 2000
    tokens: int = 128
    prompt: int = PROMPT_LENGTH
    longer: int = 0
    classes: int = 2
    answers: int = 1
    dimensions: int = DIMENSIONS
    transfer: TransferSettings = TransferSettings()  # noqa: RUF009 -- frozen
