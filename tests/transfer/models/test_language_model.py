import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tests.transfer.models.lines import TEXTS
from transfer.errors import ModelError
from transfer.families.shortcuts import only_of
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.prompt import SoftPrompt
from transfer.tokens.batches import FORWARD_TOKENS, Batch, Line
from transfer.tokens.readout import label_logits


@pytest.fixture
def lines(model, tiny_task):
    return model.encoder(tiny_task).encode(TEXTS)


def prompt_of(model, length=4, seed=0):
    return SoftPrompt(
        torch.randn(length, model.width, generator=torch.Generator().manual_seed(seed)) / 4, model.ref
    )


def rows_of(prompt, count):
    return prompt.vectors.expand(count, -1, -1)


@torch.no_grad()
def test_answer_logits_are_the_full_forward_passs_at_the_answer(model, lines):
    for line in lines:
        full = model.model(input_ids=torch.tensor([line.ids])).logits[0, line.answer]
        torch.testing.assert_close(model.answer_logits([line])[0], full, atol=1e-5, rtol=0)


@torch.no_grad()
def test_prompt_rows_stand_before_the_whole_line(model, lines):
    prompt = prompt_of(model)
    for line in lines:
        words = model.embedding[torch.tensor(line.ids)]
        embeds = torch.cat([prompt.vectors, words]).unsqueeze(0)
        full = model.model(inputs_embeds=embeds).logits[0, prompt.length + line.answer]
        torch.testing.assert_close(model.answer_logits([line], prompt)[0], full, atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [0, 4])
def test_neither_company_nor_padding_changes_an_answer(model, lines, length):
    prompt = prompt_of(model, length) if length else None
    together = model.answer_logits(lines, prompt)
    alone = torch.cat([model.answer_logits([line], prompt) for line in lines])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    batch = model.collate(lines)
    fill = torch.full((len(lines), 7), 9)
    padded = Batch(torch.cat([batch.ids, fill], 1), torch.cat([batch.mask, fill * 0], 1), batch.answer)
    with torch.no_grad():
        wider = model.logits(padded, None if prompt is None else rows_of(prompt, len(lines)))
    torch.testing.assert_close(wider, together, atol=1e-5, rtol=0)


def test_answers_come_in_the_order_of_the_lines_across_batches(model):
    lines = [Line(tuple(range(5, 5 + 20 + 37 * index % 80)), 19) for index in range(200)]
    assert sum(len(line.ids) for line in lines) > FORWARD_TOKENS
    together = model.answer_logits(lines)
    for index in (0, 1, 77, 199):
        torch.testing.assert_close(together[[index]], model.answer_logits([lines[index]]), atol=1e-5, rtol=0)


def test_each_record_can_have_its_own_prompt_and_only_its_own_gradient(model, lines):
    rows = torch.stack([prompt_of(model, seed=seed).vectors for seed in range(len(lines))]).requires_grad_(
        True
    )
    model.logits(model.collate(lines), rows)[1].sum().backward()
    assert [bool(gradient.abs().sum() > 0) for gradient in rows.grad] == [False, True, False]


def test_no_hook_stays_behind_after_an_error(causal):
    with pytest.raises(IndexError):
        causal.logits(Batch(torch.tensor([[5, 6]]), torch.ones(1, 2, dtype=torch.long), torch.tensor([9])))
    assert causal.model(input_ids=torch.tensor([[5, 6]])).logits.shape[1] == 2


def test_a_line_beyond_the_models_positions_is_refused(model):
    line = Line(tuple([7] * 120), 119)
    model.answer_logits([line], prompt_of(model, 8))
    with pytest.raises(ModelError, match="128 positions, prompt and line need 129"):
        model.answer_logits([line], prompt_of(model, 9))


def test_no_lines_have_no_answers(causal):
    with pytest.raises(ModelError, match="no lines"):
        causal.answer_logits([])


def test_a_text_prompt_holds_the_texts_embeddings_repeated_or_cut(model):
    ids = model.tokenizer("a great film", add_special_tokens=False)["input_ids"]
    prompt = model.text_prompt("a great film", len(ids) + 1)
    assert torch.equal(prompt.vectors, model.embedding[torch.tensor([*ids, ids[0]])])
    assert torch.equal(model.text_prompt("a great film", 1).vectors, prompt.vectors[:1])
    prompt.vectors.zero_()
    assert model.embedding[torch.tensor(ids)].abs().sum() > 0
    with pytest.raises(ModelError, match="no tokens"):
        model.text_prompt("", 3)


def test_a_vocabulary_prompt_draws_different_words_from_its_seed(causal):
    first, again = (causal.vocabulary_prompt(50, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.vectors, again.vectors)
    assert len(first.vectors.unique(dim=0)) == 50
    assert first.model == causal.ref


def test_class_logits_are_the_mean_of_the_label_words():
    logits = torch.tensor([[0.0, 1.0, 2.0, 9.0], [4.0, 0.0, 2.0, 9.0]])
    assert label_logits(logits, [[0, 2], [1]]).tolist() == [[1.0, 1.0], [3.0, 0.0]]


def test_class_logits_need_no_other_row_of_the_head(model, lines):
    words = [[7, 11, 3], [5]]
    prompt = prompt_of(model, 3)
    full = model.answer_logits(lines, prompt)
    torch.testing.assert_close(
        model.answer_logits(lines, prompt, words), label_logits(full, words), atol=1e-5, rtol=0
    )
    with only_of(model.model, words):
        head = model.model.get_output_embeddings()
        assert head(torch.ones(1, model.width)).shape == (1, 4)
    assert torch.equal(model.answer_logits(lines, prompt), full)  # the head is whole again


@pytest.mark.assets
@pytest.mark.parametrize(
    ("name", "causal"), [("stories260K", True), ("minilm-l6-mlm", False), ("lab-llama-7m", True)]
)
def test_real_models_load_and_answer(assets, name, causal):
    model = load(assets / "models" / name)
    assert isinstance(model, LanguageModel)
    assert model.causal == causal
    ids = [model.tokenizer(text)["input_ids"] for text in TEXTS]
    lines = [Line(tuple(part), len(part) - 1) for part in ids]
    logits = model.answer_logits(lines, model.text_prompt("A review", 5))
    assert logits.shape == (len(TEXTS), model.embedding.shape[0])
    assert torch.isfinite(logits).all()
    assert isinstance(model.tokenizer, PreTrainedTokenizerFast)
