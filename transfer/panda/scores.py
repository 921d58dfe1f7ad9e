"""How alike two prompts are: scores from what they do to a model, none from their vectors alone.

Letters: N public texts, P prompt tokens, H hidden size, C classes of the new task, Z classes of the other.

Every score is a function of published prompts and public text, so none costs any ε. All texts are asked in one
task's words, which keeps the format of a task out of the comparison; only the paper's own score does not.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import cosine_similarity

from transfer.models.language_model import LanguageModel
from transfer.prompt import SoftPrompt
from transfer.tokens.batches import Line

TINY = 1e-12
"""Least probability a logarithm is taken of."""


@torch.no_grad()
def answer_states(model: LanguageModel, lines: Sequence[Line], prompt: SoftPrompt | None) -> torch.Tensor:
    """The backbone's last hidden states at the answer, [N, H], behind `prompt` or without one."""
    found = torch.empty(len(lines), model.traits.width)
    for group in model.groups(lines, range(len(lines)), prompt.length if prompt else 0, 1):
        batch = model.collate([lines[index] for index in group])
        rows = prompt.vectors.expand(len(batch), -1, -1) if prompt else None
        found[group] = model.states(batch, rows)
    return found


def effect_cosines(new: torch.Tensor, library: torch.Tensor) -> torch.Tensor:
    """Score A: cosine of centred prompt effects in one model, new [H] against library [K, H] → [K] in [−1, 1].

    v = mean_x [h(x; p) − h(x; ∅)];  s_k = cos(v_new − v̄, v_k − v̄) with v̄ the library's mean, so that what every
    prompt does counts for nothing. One prompt has no mean to leave: it is compared as it stands.
    """
    centre = library.mean(dim=0) if len(library) > 1 else torch.zeros_like(new)
    return cosine_similarity((new - centre).unsqueeze(0), library - centre, dim=1)


def alignment(new: torch.Tensor, other: torch.Tensor) -> float:
    """Score B: linear CKA of two prompts' effects by text, [N, H] against [N, H′] → [0, 1], whatever the models.

    δ_x = h(x; p) − h(x; ∅);  G = C·δδᵀ·C with C the centring matrix;  ⟨G, G′⟩_F / (‖G‖_F·‖G′‖_F) (Kornblith et
    al. 2019). 0 if a prompt does the same to every text.
    """
    ours, theirs = (_gram(effects) for effects in (new, other))
    scale = ours.norm() * theirs.norm()
    return (ours * theirs).sum().item() / scale.item() if scale > 0 else 0.0


def _gram(effects: torch.Tensor) -> torch.Tensor:
    centred = (effects - effects.mean(dim=0)).double()
    return centred @ centred.T


def leep(new: torch.Tensor, other: torch.Tensor) -> float:
    """Score C: LEEP (Nguyen et al. 2020) of the answers q = softmax(z), logits [N, C] against [N, Z] → (−∞, 0].

    P(y, z) = mean_x q_new(y|x)·q_k(z|x);  s = mean_x Σ_y q_new(y|x)·log Σ_z P(y|z)·q_k(z|x): how well the other
    task's answers tell the new one's, the label sets being what they are.
    """
    ours, theirs = (logits.double().softmax(dim=-1) for logits in (new, other))
    joint = ours.T @ theirs / len(ours)
    told = theirs @ (joint / joint.sum(dim=0).clamp_min(TINY)).T
    return (ours * told.clamp_min(TINY).log()).sum(dim=1).mean().item()


def descent_cosine(gradient: torch.Tensor, start: torch.Tensor, other: torch.Tensor) -> float | None:
    """Score D: cos(−∇L(p₀), p_k − p₀), all [P, H] → [−1, 1]: does the first step point to the library's prompt?

    A statement to first order about the way from one common start p₀; None for prompts of another length.
    """
    if other.shape != start.shape:
        return None
    return cosine(-gradient, other - start)


def task_similarity(new: torch.Tensor, other: torch.Tensor) -> float:
    """PANDA's own score (Zhong et al. 2022, eq. 2): cos of mean states of each task's own texts → [−1, 1].

    ĥ = mean_x h(x; p) over about 100 of the task's own examples, [N, H] and [N′, H] of one model. It follows the
    format of the tasks more than their content, and is here to be compared with.
    """
    return cosine(new.mean(dim=0), other.mean(dim=0))


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """Cosine of two tensors of one shape; 0 if either is 0."""
    return cosine_similarity(one.flatten(), other.flatten(), dim=0).item()
