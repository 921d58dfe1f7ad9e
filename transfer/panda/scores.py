"""Similarity of two prompts: scores of their effects on a model, not of their vectors.

Letters: N public texts, P prompt tokens, H hidden size, C classes of the new task, Z classes of the other.

Every score is a function of published prompts and public text, so it costs no ε. Scores A, B and D read all texts in
the new task's template, which keeps the format of tasks out of the comparison.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import cosine_similarity

from transfer.models.language_model import LanguageModel
from transfer.prompt import SoftPrompt
from transfer.tokens.batches import Line

TINY = 1e-12
"""Lower bound of a probability before its logarithm."""


@torch.no_grad()
def answer_states(model: LanguageModel, lines: Sequence[Line], prompt: SoftPrompt | None) -> torch.Tensor:
    """Return the backbone's last hidden states [N, H] at the answer, behind `prompt` or without one."""
    states = torch.empty(len(lines), model.traits.width)

    def run(group: Sequence[int]) -> torch.Tensor:
        batch = model.collate([lines[index] for index in group])
        return model.states(batch, prompt.vectors.expand(len(batch), -1, -1) if prompt else None)

    length = prompt.length if prompt else 0
    for group, own in model.size.of_lines(lines, range(len(lines)), length, 1, run):
        states[group] = own
    return states


def effect_cosines(new: torch.Tensor, library: torch.Tensor) -> torch.Tensor:
    """Return score A: cosines [K] in [−1, 1] of centred prompt effects in one model, new [H] and library [K, H].

    v = mean_x [h(x; p) − h(x; ∅)];  s_k = cos(v_new − v̄, v_k − v̄) with v̄ the library's mean. Centring removes the
    effect that all prompts share. A library of one prompt is not centred.
    """
    centre = library.mean(dim=0) if len(library) > 1 else torch.zeros_like(new)
    return cosine_similarity((new - centre).unsqueeze(0), library - centre, dim=1)


def alignment(new: torch.Tensor, other: torch.Tensor) -> float:
    """Return score B in [0, 1]: linear CKA of two prompts' effects by text, [N, H] and [N, H′], in any two models.

    δ_x = h(x; p) − h(x; ∅);  G = C·δδᵀ·C with C the centring matrix;  ⟨G, G′⟩_F / (‖G‖_F·‖G′‖_F) (Kornblith et
    al. 2019). The score is 0 if a prompt has the same effect on every text.
    """
    ours, theirs = (_gram(effects) for effects in (new, other))
    scale = ours.norm() * theirs.norm()
    return (ours * theirs).sum().item() / scale.item() if scale > 0 else 0.0


def _gram(effects: torch.Tensor) -> torch.Tensor:
    centred = (effects - effects.mean(dim=0)).double()
    return centred @ centred.T  # [N, H] → [N, N], so that models of different H compare


def leep(new: torch.Tensor, other: torch.Tensor) -> float:
    """Return score C in (−∞, 0]: LEEP (Nguyen et al. 2020) of the answers q = softmax(z), logits [N, C] and [N, Z].

    P(y, z) = mean_x q_new(y|x)·q_k(z|x);  s = mean_x Σ_y q_new(y|x)·log Σ_z P(y|z)·q_k(z|x): how well the other
    task's answers predict the new one's, for any two label sets.
    """
    ours, theirs = (logits.double().softmax(dim=-1) for logits in (new, other))
    joint = ours.T @ theirs / len(ours)  # [C, Z]
    predicted = theirs @ (joint / joint.sum(dim=0).clamp_min(TINY)).T  # [N, C]
    return (ours * predicted.clamp_min(TINY).log()).sum(dim=1).mean().item()


def descent_cosine(gradient: torch.Tensor, start: torch.Tensor, other: torch.Tensor) -> float | None:
    """Return score D in [−1, 1]: cos(−∇L(p₀), p_k − p₀), all [P, H]; None for prompts of another length.

    It says, to first order, whether the first step from the common start p₀ points to the library's prompt.
    """
    if other.shape != start.shape:
        return None
    return cosine(-gradient, other - start)


def task_similarity(new: torch.Tensor, other: torch.Tensor) -> float:
    """Return PANDA's own score in [−1, 1] (Zhong et al. 2022, eq. 2): cos of mean states of each task's own texts.

    ĥ = mean_x h(x; p) over about 100 of the task's own examples, [N, H] and [N′, H] in one model. It depends on the
    format of the tasks more than on their content, and serves for comparison only.
    """
    return cosine(new.mean(dim=0), other.mean(dim=0))


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the cosine of two tensors of one shape; 0 if either is 0."""
    return cosine_similarity(one.flatten(), other.flatten(), dim=0).item()
