"""What target and proxy are compared by while one learns from the other: logits, and hidden states.

Letters: B sequences, T tokens, P prompt tokens, N read positions, H hidden size, V vocabulary.
"""

import torch

from transfer.cloze import Exercise
from transfer.models import LanguageModel
from transfer.objectives import relations
from transfer.shortcuts import only_at


def compared(model: LanguageModel, part: Exercise) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and hidden states [B, P + T, H] of an exercise.

    The logits are those of the LM head [N, V] at the chosen positions. Without one they are the `relations`
    [B, B − 1] of the mean states of each sequence's own tokens.
    """
    embeds = model.model.get_input_embeddings()(part.ids)
    embeds = torch.cat([part.prompt.expand(len(part.ids), -1, -1), embeds], dim=1)
    inputs = {"inputs_embeds": embeds, "attention_mask": part.mask}
    if model.lm_head == "none":
        states: torch.Tensor = model.model(**inputs).last_hidden_state
        return _relations(states.float(), part), states
    if model.traits.shortcuts.states is None:
        logits = model.model(**inputs | {"inputs_embeds": embeds.clone()}).logits[part.rows, part.columns]
        return logits, model.backbone(**inputs).last_hidden_state
    with only_at(model.backbone, part.rows, part.columns) as seen:
        logits = model.model(**inputs).logits[:, 0]
    return logits, seen[0]


def _relations(states: torch.Tensor, part: Exercise) -> torch.Tensor:
    """In float32 whatever the passes are in: a cosine is divided by a small number."""
    own = states[part.rows, part.columns]
    sums = states.new_zeros(len(part.ids), states.shape[2]).index_add(
        0, part.rows, own
    )  # means, up to length
    with torch.autocast(states.device.type, enabled=False):
        return relations(sums)
