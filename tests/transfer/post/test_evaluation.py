import pytest
import torch

from transfer.errors import ModelError
from transfer.post.evaluation import LabelSets, accuracy, class_logits, score, set_score

TEXTS = ["The film was great.", "A terrible plot.", "We liked it", "bad", "It was fun, good and long."]


def certain(classes, count):
    """Class logits whose most likely classes are these."""
    return torch.nn.functional.one_hot(torch.tensor(classes), count).float()


def test_micro_counts_records_and_macro_counts_classes():
    found = score(certain([0, 0, 0, 1], 2), [0, 0, 0, 0])
    assert (found.micro, found.macro) == (0.75, 0.75)
    found = score(certain([0, 0, 0, 0], 2), [0, 0, 0, 1])
    assert (found.micro, found.macro) == (0.75, 0.5)


def test_a_class_without_records_does_not_count():
    assert score(certain([0, 2], 3), [0, 2]).macro == 1.0


def test_swapping_the_names_of_classes_changes_nothing():
    logits = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    labels = [index % 3 for index in range(20)]
    order = [2, 0, 1]
    renamed = [order.index(label) for label in labels]
    assert score(logits[:, order], renamed) == score(logits, labels)


def test_accuracy_is_the_share_of_texts_whose_class_logit_is_largest(model, tiny_task):
    prompt = model.text_prompt("A sentence about a review", 3)
    chosen = class_logits(model, tiny_task, TEXTS, prompt).argmax(dim=1).tolist()
    assert accuracy(model, tiny_task, TEXTS, chosen, prompt).micro == 1.0
    assert accuracy(model, tiny_task, TEXTS, [1 - label for label in chosen], prompt).micro == 0.0


def test_the_prompt_matters_and_none_is_the_bare_model(causal, tiny_task):
    prompt = causal.text_prompt("A sentence about a review", 3)
    bare = class_logits(causal, tiny_task, TEXTS, None)
    encoder = causal.encoder(tiny_task)
    batch = causal.collate(encoder.encode(TEXTS))
    with torch.no_grad():
        logits = causal.logits(batch)
    by_hand = torch.stack([logits[:, words].mean(dim=1) for words in encoder.words], dim=1)
    torch.testing.assert_close(bare, by_hand, atol=1e-5, rtol=0)
    assert not torch.allclose(bare, class_logits(causal, tiny_task, TEXTS, prompt))


def test_no_texts_are_an_error_not_a_score(causal, tiny_task):
    with pytest.raises(ModelError, match="no lines"):
        accuracy(causal, tiny_task, [], [])


def test_f1_of_sets_counts_decisions_labels_and_whole_sets():
    answers, truth = [(0,), (0, 1), (), (1, 2)], [(0,), (1,), (2,), (1, 2)]
    # TP 1, 2, 1; FP 1, 0, 0; FN 0, 0, 1
    found = set_score(answers, truth)
    assert found.micro == pytest.approx(2 * 4 / (2 * 4 + 1 + 1))
    assert found.macro == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert found.exact == 0.5
    assert set_score([(1, 0)], [(0, 1)]) == LabelSets(1.0, 1.0, 1.0)


def test_a_label_that_is_nowhere_does_not_count_and_a_wrong_one_does():
    assert set_score([(0,), ()], [(0,), ()]) == LabelSets(1.0, 1.0, 1.0)
    assert set_score([(0,), (4,)], [(0,), ()]) == LabelSets(2 / 3, 0.5, 0.5)
    assert set_score([(), ()], [(), ()]) == LabelSets(1.0, 1.0, 1.0)
    assert set_score([(), ()], [(1,), ()]) == LabelSets(0.0, 0.0, 0.5)
