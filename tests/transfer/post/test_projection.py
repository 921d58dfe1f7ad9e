from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from transfer.errors import UsageError
from transfer.model_ref import ModelRef
from transfer.models.language_model import LanguageModel
from transfer.post import projection
from transfer.post.compatibility import check_possible
from transfer.post.projection import projected, shared_tokens
from transfer.post.settings import TransferSettings
from transfer.post.transfer import initial_prompt, transfer
from transfer.prompt import SoftPrompt


@pytest.fixture
def wide(causal):
    """A model of the same vocabulary and another width, whose embeddings are a linear map of the narrow one's."""
    config = LlamaConfig(
        vocab_size=len(causal.embedding), hidden_size=48, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=4, max_position_embeddings=128,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    weights = torch.randn(causal.width, 48) / 4
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(causal.embedding @ weights + 0.5)
    return LanguageModel(model, causal.tokenizer, ModelRef("wide", "2" * 64), lm_head="causal"), weights


def test_a_prompt_goes_the_way_of_the_shared_tokens(causal, wide):
    target, weights = wide
    prompt = causal.text_prompt("The film was great", 3)
    moved = projected(prompt, causal, target)
    torch.testing.assert_close(moved.vectors, prompt.vectors @ weights + 0.5, atol=2e-3, rtol=0.02)
    assert moved.model == target.ref


class Outputs(TorchDispatchMode):
    """The size of the largest result of an operation within the block."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            self.largest = max(self.largest, each.numel() if isinstance(each, torch.Tensor) else 0)
        return result


def test_memory_grows_with_the_widths_alone_and_the_result_is_that_of_one_block(causal, wide, monkeypatch):
    target, _ = wide
    prompt = causal.text_prompt("The film was great", 3)
    whole = projected(prompt, causal, target)
    monkeypatch.setattr(projection, "BLOCK", 7 * (causal.width + target.width))
    with Outputs() as outputs:
        moved = projected(prompt, causal, target)
    assert outputs.largest == causal.width * target.width < len(causal.embedding) * causal.width / 8
    torch.testing.assert_close(
        moved.vectors, whole.vectors, rtol=0, atol=1e-6 * float(whole.vectors.abs().max())
    )


def test_tokens_are_matched_by_what_they_are_not_by_their_number(causal, wide, tiny_causal):
    target, weights = wide
    names = causal.tokenizer.get_vocab()
    other = PreTrainedTokenizerFast.from_pretrained(tiny_causal)
    other.get_vocab = lambda: {one: len(names) - 1 - place for one, place in names.items()}
    with torch.no_grad():
        target.model.get_input_embeddings().weight.copy_(target.embedding.flip(0).clone())
    target = replace(target, tokenizer=other)  # the same words, numbered from the other end
    prompt = causal.text_prompt("The film was great", 3)
    moved = projected(prompt, causal, target)
    torch.testing.assert_close(moved.vectors, prompt.vectors @ weights + 0.5, atol=2e-3, rtol=0.02)


def test_vocabularies_that_share_too_little_are_refused(causal, wide, tiny_causal, tiny_task):
    target, _ = wide
    other = PreTrainedTokenizerFast.from_pretrained(tiny_causal)
    other.get_vocab = lambda: {"only": 0}
    lonely = LanguageModel(target.model, other, target.ref, lm_head="causal")
    with pytest.raises(UsageError, match="share 0 tokens, too few to project 32 numbers"):
        projected(causal.text_prompt("film", 2), causal, lonely)
    with pytest.raises(UsageError, match="share 0 tokens"):
        check_possible(causal, lonely, tiny_task, ["A film."] * 12, TransferSettings(start="projected"))


def test_a_transfer_may_start_from_the_projection(causal, wide, tiny_task):
    target, _ = wide
    prompt = causal.text_prompt("The film was great", 3)
    texts = [f"The film number {index} was good." for index in range(12)]
    found = transfer(prompt, causal, target, tiny_task, texts, TransferSettings(start="projected", steps=0))
    assert torch.equal(found.prompt.vectors, projected(prompt, causal, target).vectors)


def test_rows_of_a_head_are_not_projected(causal, wide, tiny_task):
    target, _ = wide
    labels = tuple(replace(label, words=()) for label in tiny_task.labels)
    task = replace(tiny_task, template="{text}", labels=labels, label_reading="head")
    prompt = SoftPrompt(torch.ones(3 + task.head_rows, causal.width), causal.ref)
    start = initial_prompt(prompt, causal, target, task, TransferSettings(start="projected"))
    assert start.length == prompt.length
    assert not start.vectors[3:].any()


def test_tokens_of_other_tokenisers_are_matched_by_what_they_spell(causal, masked, metaspace):
    plain, pieces = (model.tokenizer.get_vocab() for model in (causal, masked))
    shared = shared_tokens(causal, masked)
    assert {(plain["Ġfood"], pieces["food"]), (plain["ood"], pieces["##ood"])} <= set(shared)
    assert (plain["b"], pieces["b"]) not in shared
    spaced = metaspace.get_vocab()
    shared = shared_tokens(causal, replace(causal, tokenizer=metaspace))
    assert {(plain["Ġgreat"], spaced["▁great"]), (plain["h"], spaced["h"])} <= set(shared)


def test_parts_of_a_character_are_matched_with_nothing(causal):
    shared = dict(shared_tokens(causal, causal))
    assert len(shared) > len(causal.tokenizer) / 2
    assert all(number == same for number, same in shared.items())
    assert not any("\N{REPLACEMENT CHARACTER}" in causal.tokenizer.decode([number]) for number in shared)
