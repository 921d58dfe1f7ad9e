"""The published recipe, written once more to be compared with: the same losses at the price its code pays.

Every record is padded to 128 tokens, the head multiplies every position with the whole vocabulary, a transfer
step is four forward passes, and per-record gradients come from Opacus' hooks on a wrapped prompt module. Two
things are kinder than the published code, so that both recipes learn the same: constants carry no gradient,
and the target answers without dropout.

Each function returns one optimiser step over one batch of records. Letters: B records, T tokens, P prompt
tokens, V vocabulary.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, log_softmax, pad

from transfer.distillation.exercises import Exercise
from transfer.models.language_model import LanguageModel
from transfer.models.per_record_gradients import LabelledLines
from transfer.prompt import SoftPrompt
from transfer.tokens.batches import Batch, Line
from transfer.tokens.readout import label_logits

LENGTH = 128
"""Tokens every record is padded to, before the prompt: the published default."""
LEARNING_RATE = 1e-3
CLIP_NORM = 1.0
WEIGHTS = (5.0, 2.0, 1.0)
"""Of the KL, language-model and cosine terms of distillation."""

Step = Callable[[], None]


def tuning(model: LanguageModel, data: LabelledLines, start: SoftPrompt) -> Step:
    """Prompt tuning: the batch's mean loss through one shared prompt."""
    vectors = nn.Parameter(start.vectors.clone())
    optimizer = torch.optim.Adam([vectors], lr=LEARNING_RATE)

    def step() -> None:
        optimizer.zero_grad()
        batch = _padded(model.collate(data.lines))
        logits = _answers(model, batch, vectors.expand(len(batch), -1, -1))
        cross_entropy(label_logits(logits, data.words), data.labels).backward()
        optimizer.step()

    return step


def private_tuning(model: LanguageModel, data: LabelledLines, start: SoftPrompt, noise: float) -> Step:
    """DP-SGD on the prompt by hooks: Opacus' wrapper, clipping, noise and optimiser as they ship."""
    prompt = GradSampleModule(nn.Embedding.from_pretrained(start.vectors.clone(), freeze=False))
    optimizer = DPOptimizer(
        torch.optim.Adam(prompt.parameters(), lr=LEARNING_RATE),
        noise_multiplier=noise,
        max_grad_norm=CLIP_NORM,
        expected_batch_size=len(data.lines),
    )

    def step() -> None:
        optimizer.zero_grad()
        batch = _padded(model.collate(data.lines))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
            rows = prompt(torch.arange(start.length).expand(len(batch), -1))
            logits = _answers(model, batch, rows)
            cross_entropy(label_logits(logits, data.words), data.labels).backward()
        optimizer.step()

    return step


def transfer(
    prompt: SoftPrompt,
    proxy: LanguageModel,
    target: LanguageModel,
    lines: tuple[Sequence[Line], Sequence[Line]],
    *,
    alpha: float,
    temperature: float,
) -> Step:
    """Transfer over the whole vocabulary from the lines of both models: four forward passes a step."""
    vectors = nn.Parameter(prompt.vectors.clone())
    optimizer = torch.optim.Adam([vectors], lr=LEARNING_RATE)

    def step() -> None:
        optimizer.zero_grad()
        theirs, ours = _padded(proxy.collate(lines[0])), _padded(target.collate(lines[1]))
        with torch.no_grad():
            proxy_prompted = _answers(proxy, theirs, prompt.vectors.expand(len(theirs), -1, -1))
            proxy_bare, bare = _answers(proxy, theirs), _answers(target, ours)
        prompted = _answers(target, ours, vectors.expand(len(ours), -1, -1))
        imitate = _divergence(proxy_prompted, prompted, temperature)
        shift = _divergence(proxy_prompted - proxy_bare, prompted - bare, temperature)
        ((1 - alpha) * imitate + alpha * shift).backward()
        optimizer.step()

    return step


def distillation(target: LanguageModel, proxy: nn.Module, exercise: Exercise, temperature: float) -> Step:
    """Distillation of all but embeddings and head, on one exercise padded to the full length."""
    proxy.requires_grad_(True)
    for module in (proxy.get_input_embeddings(), proxy.get_output_embeddings()):
        module.requires_grad_(False)
    trained = [parameter for parameter in proxy.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0)
    extra, at = (0, LENGTH - exercise.ids.shape[1]), (exercise.rows, exercise.columns)
    given = {"input_ids": pad(exercise.ids, extra), "attention_mask": pad(exercise.mask, extra)}
    given = {name: each.to(target.device) for name, each in given.items()}
    kept = given["attention_mask"].bool()

    def step() -> None:
        proxy.train()
        optimizer.zero_grad()
        with torch.no_grad():
            reference = target.model(**given, output_hidden_states=True)
        learnt = proxy(**given, output_hidden_states=True)
        logits, states = learnt.logits[at], learnt.hidden_states[-1][kept]
        kl = _divergence(reference.logits[at], logits, temperature)
        lm = cross_entropy(logits, exercise.goal.to(logits.device))
        cosine = (1 - cosine_similarity(states, reference.hidden_states[-1][kept], dim=-1)).mean()
        sum(weight * term for weight, term in zip(WEIGHTS, (kl, lm, cosine), strict=True)).backward()
        nn.utils.clip_grad_norm_(trained, 5.0)
        optimizer.step()

    return step


def _padded(batch: Batch) -> Batch:
    extra = (0, LENGTH - batch.ids.shape[1])
    return Batch(pad(batch.ids, extra), pad(batch.mask, extra), batch.answer)


def _answers(model: LanguageModel, batch: Batch, rows: torch.Tensor | None = None) -> torch.Tensor:
    """Logits [B, V] at the answer, read off those of every position [B, P + T, V]."""
    embeds, answer = model.model.get_input_embeddings()(batch.ids.to(model.device)), batch.answer
    mask = batch.mask.to(model.device)
    if rows is not None:
        embeds = torch.cat([rows.to(embeds), embeds], dim=1)
        mask = torch.cat([mask.new_ones(rows.shape[:2]), mask], dim=1)
        answer = answer + rows.shape[1]
    everywhere: torch.Tensor = model.model(inputs_embeds=embeds, attention_mask=mask).logits
    return everywhere[torch.arange(len(batch)), answer].float().cpu()


def _divergence(reference: torch.Tensor, logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """T²·KL(reference ‖ logits), mean of rows."""
    goal, ours = log_softmax(reference / temperature, -1), log_softmax(logits / temperature, -1)
    return kl_div(ours, goal, reduction="batchmean", log_target=True) * temperature**2
