import pytest
import torch

from transfer.errors import UsageError
from transfer.models.objectives import divergence, transfer_losses
from transfer.post.baselines import (
    direct,
    logit_arithmetic,
    only_answers,
    only_change,
    text_prompt,
    without_prior,
)
from transfer.post.evaluation import class_logits
from transfer.post.settings import TransferSettings
from transfer.prompt import SoftPrompt

TEXTS = ["The film was great.", "A terrible plot and a boring evening."]


def some_prompt(model, length=3):
    vectors = torch.randn(length, model.width, generator=torch.Generator().manual_seed(1))
    return SoftPrompt(vectors, model.ref)


def test_direct_transfer_keeps_the_vectors_and_changes_the_model(causal, gpt2):
    prompt = some_prompt(causal)
    moved = direct(prompt, gpt2)
    assert torch.equal(moved.vectors, prompt.vectors)
    assert moved.model == gpt2.ref


def test_direct_transfer_between_widths_is_refused(causal, wide):
    with pytest.raises(UsageError, match=r"equal widths: the prompt's is 32, 'tiny-wide' has 48"):
        direct(some_prompt(causal), wide)


def test_logit_arithmetic_adds_what_the_prompt_changed_on_the_proxy(causal, wide, tiny_task):
    prompt = some_prompt(causal)
    summed = logit_arithmetic(prompt, causal, wide, tiny_task, TEXTS)
    change = class_logits(causal, tiny_task, TEXTS, prompt) - class_logits(causal, tiny_task, TEXTS, None)
    torch.testing.assert_close(summed - class_logits(wide, tiny_task, TEXTS, None), change)
    assert change.abs().max() > 1e-3


def test_logit_arithmetic_on_the_proxy_itself_is_the_prompted_proxy(causal, tiny_task):
    prompt = some_prompt(causal)
    torch.testing.assert_close(
        logit_arithmetic(prompt, causal, causal, tiny_task, TEXTS),
        class_logits(causal, tiny_task, TEXTS, prompt),
    )


def test_without_its_prior_a_model_prefers_no_class_on_the_public_texts(causal, tiny_task):
    found = without_prior(causal, tiny_task, TEXTS, TEXTS)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(found.shape[1]))
    bare = class_logits(causal, tiny_task, TEXTS, None)
    torch.testing.assert_close(found[0] - found[1], bare.log_softmax(1)[0] - bare.log_softmax(1)[1])
    with pytest.raises(UsageError, match="no public texts"):
        without_prior(causal, tiny_task, TEXTS, [])


def test_the_text_prompt_is_the_embeddings_of_the_task(causal, tiny_task):
    prompt = text_prompt(causal, tiny_task, 2)
    ids = causal.tokenizer(tiny_task.init_text, add_special_tokens=False)["input_ids"][:2]
    assert torch.equal(prompt.vectors, causal.embedding[ids])


def test_one_loss_alone_is_that_loss():
    ours, bare, prompted, reference = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    settings = TransferSettings(alpha=0.4)

    def loss(settings):
        return transfer_losses(
            ours, bare, prompted, reference, alpha=settings.alpha, temperature=settings.temperature
        ).mean()

    temperature = settings.temperature
    torch.testing.assert_close(loss(only_answers(settings)), divergence(prompted, ours, temperature))
    change = divergence(prompted - reference, ours - bare, temperature)
    torch.testing.assert_close(loss(only_change(settings)), change)
