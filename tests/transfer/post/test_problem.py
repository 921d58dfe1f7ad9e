from dataclasses import replace

import pytest
import torch

from transfer.distillation.proxy import cut
from transfer.errors import UsageError
from transfer.models.language_model import LanguageModel
from transfer.models.objectives import transfer_losses
from transfer.post.descent import descend
from transfer.post.settings import TransferSettings
from transfer.post.transfer import initial_prompt, transfer, transfer_problem
from transfer.prompt import SoftPrompt
from transfer.wording.formats import formats
from transfer.wording.sensitivity import log_chances, posix

THINGS = ("film", "plot", "music", "food", "long train home", "weather")
TEXTS = [f"We {verb} the {thing}." for verb in ("liked", "saw", "made", "missed") for thing in THINGS]
SETTINGS = TransferSettings(alpha=0.5, steps=6, batch_size=8, learning_rate=0.05, check_every=2)


@pytest.fixture
def given(causal, tiny_task):
    """prompt, proxy, target, task, texts: what a transfer takes."""
    with torch.no_grad():  # fresh weights are so small that a prompt hardly moves an answer
        for matrix in causal.model.parameters():
            matrix.mul_(6 if matrix.ndim == 2 else 1)
    proxy = LanguageModel(cut(causal, (0,)), causal.tokenizer, replace(causal.ref, name="proxy"), "causal")
    prompt = SoftPrompt(torch.randn(4, 32, generator=torch.Generator().manual_seed(0)), proxy.ref)
    return prompt, proxy, causal, tiny_task, TEXTS


class Pull:
    """A guide towards a uniform answer, with the weights it is told."""

    def __init__(self, weight):
        self.told, self.seen = weight, []

    def losses(self, logits, chosen):
        return logits.square().sum(dim=-1)

    def weight(self, done, task, own):
        self.seen.append((done, task.shape, own.shape))
        return self.told


def test_the_loss_of_each_text_stands_at_its_own_place_whatever_the_batches(given):
    problem = transfer_problem(*given, SETTINGS)
    vectors = given[0].vectors
    chosen = problem.order.tolist()
    together = problem.losses_of(vectors, chosen)
    apart = torch.cat([problem.losses_of(vectors, [index]) for index in chosen])
    assert torch.allclose(together, apart, rtol=1e-4, atol=1e-7)
    assert together.std() > 0
    assert problem.held_out_loss(vectors) == pytest.approx(
        together[: problem.held_out_count].mean().item(), rel=1e-4
    )


def test_the_order_of_training_is_the_same_at_every_call_and_leaves_out_what_measures(given):
    problem = transfer_problem(*given, SETTINGS)
    first, again = ([chosen for chosen, _ in zip(problem.batches(), range(9), strict=False)] for _ in "ab")
    assert first == again
    assert {index for chosen in first for index in chosen} == set(problem.trained)
    assert set(problem.trained).isdisjoint(problem.held_out)
    assert len(problem.trained) + len(problem.held_out) == len(TEXTS)


def test_the_gradient_is_the_mean_over_the_chosen_texts_however_many_they_are(given):
    problem = transfer_problem(*given, SETTINGS)
    vectors = given[0].vectors.clone().requires_grad_(True)
    pull = Pull(1.0)
    once = problem.gradients(vectors, [0, 1, 2], pull.losses)
    twice = problem.gradients(vectors, [0, 1, 2, 0, 1, 2], pull.losses)
    assert len(once) == len(twice) == 2
    for one, two in zip(once, twice, strict=True):
        assert one.abs().max() > 0
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-6)


def test_a_guide_without_weight_changes_nothing_and_one_with_weight_does(given):
    problem = transfer_problem(*given, SETTINGS)
    plain = descend(problem, given[0], 6)
    for weight, same in ((0.0, True), (5.0, False)):
        guide = Pull(weight)
        guided = descend(problem, given[0], 6, guide)
        assert torch.equal(guided.prompt.vectors, plain.prompt.vectors) is same
        assert guide.seen[0] == (1 / 6, (4, 32), (4, 32))
        assert [round(6 * done) for done, *_ in guide.seen] == [1, 2, 3, 4, 5, 6]


def test_a_transfer_may_start_anywhere(given):
    prompt, proxy, target, task, _ = given
    start = SoftPrompt(torch.ones(7, 32), target.ref)
    found = transfer(*given, replace(SETTINGS, steps=0), start=start)
    assert torch.equal(found.prompt.vectors, start.vectors)
    usual = transfer(*given, replace(SETTINGS, steps=0))
    assert torch.equal(
        usual.prompt.vectors, initial_prompt(prompt, proxy, target, task, TransferSettings()).vectors
    )


def test_a_descent_that_runs_into_infinity_returns_where_it_began(given):
    problem = transfer_problem(*given, SETTINGS)
    assert torch.equal(descend(problem, given[0], 6, Pull(float("inf"))).prompt.vectors, given[0].vectors)


def test_a_problem_of_too_few_texts_is_refused_before_any_forward_pass(given):
    with pytest.raises(UsageError, match="9 public texts are too few"):
        transfer_problem(*given[:4], TEXTS[:9], SETTINGS)


FORMATS = replace(SETTINGS, formats=3)


def test_a_text_that_measures_is_never_trained_on_in_any_format(given):
    problem = transfer_problem(*given, FORMATS)
    assert len(problem.lines) == 3 * len(TEXTS)
    assert sorted(problem.held_out + problem.trained) == list(range(len(TEXTS)))
    seen = [chosen for chosen, _ in zip(problem.batches(), range(60), strict=False)]
    lines = {line for chosen in seen for line in chosen}
    assert {line % len(TEXTS) for line in lines} == set(problem.trained)
    assert len(lines) > 2 * len(problem.trained)  # most texts are met in all formats
    round_of = len(problem.trained)
    once = [line % len(TEXTS) for chosen in seen for line in chosen][: round_of - round_of % 8]
    assert len(set(once)) == len(once)
    again = [chosen for chosen, _ in zip(problem.batches(), range(60), strict=False)]
    assert again == seen


def test_one_format_is_split_and_drawn_as_if_there_were_no_formats(given):
    one, three = transfer_problem(*given, SETTINGS), transfer_problem(*given, FORMATS)
    assert torch.equal(one.order, three.order)
    assert one.held_out == three.held_out
    assert len(one.lines) == len(TEXTS)
    generator = torch.Generator()
    generator.set_state(one.shuffler)
    train = one.order[one.held_out_count :]
    expected = torch.cat([train[torch.randperm(len(train), generator=generator)] for _ in range(3)]).tolist()
    batches = (chosen for chosen, _ in zip(one.batches(), range(len(expected) // 8), strict=False))
    found = [text for chosen in batches for text in chosen]
    assert found == expected[: len(found)]
    assert len(found) > 2 * len(train)


@pytest.mark.parametrize("space", ["labels", "vocabulary"])
def test_a_text_has_the_same_teacher_in_every_format(given, space):
    prompt, proxy, target, task, texts = given
    settings = replace(FORMATS, space=space, alpha=0.5)
    problem = transfer_problem(*given, settings)
    encoders = formats(target.encoder(task), 3, settings.seed)
    words = encoders[0].words if space == "labels" else None

    def answers(model, encoder, behind):
        return model.answer_logits(encoder.encode(texts), behind, words)

    own = proxy.encoder(task)
    constants = answers(target, encoders[0], None), answers(proxy, own, prompt), answers(proxy, own, None)
    start = SoftPrompt(torch.randn(4, 32, generator=torch.Generator().manual_seed(1)), target.ref)
    for place, encoder in enumerate(encoders):
        expected = transfer_losses(answers(target, encoder, start), *constants, alpha=0.5, temperature=2.0)
        lines = [place * len(texts) + text for text in range(len(texts))]
        # constants over the vocabulary are float16
        assert torch.allclose(
            problem.losses_of(start.vectors, lines), expected.double(), rtol=1e-2, atol=1e-3
        )
    means = [problem.losses_of(start.vectors, [place * len(texts)]).item() for place in range(3)]
    assert len(set(means)) == 3


def test_a_guide_and_the_library_are_asked_about_texts_in_the_first_format(given):
    one, three = transfer_problem(*given, SETTINGS), transfer_problem(*given, FORMATS)
    assert torch.equal(one.answers(given[0]), three.answers(given[0]))
    asked = []

    class Curious(Pull):
        def losses(self, logits, chosen):
            asked.extend(chosen)
            return super().losses(logits, chosen)

    descend(three, given[0], 6, Curious(0.0))
    assert set(asked) <= set(three.trained)


def test_a_transfer_over_formats_ends_in_a_prompt_that_depends_less_on_them(given):
    *_, target, task, texts = given
    long = replace(SETTINGS, steps=150, check_every=10, alpha=0.0)
    one, several = (transfer(*given, replace(long, formats=count)) for count in (1, 6))
    encoders = formats(target.encoder(task), 6, long.seed)
    plain, robust = (posix(log_chances(target, encoders, texts, each.prompt)) for each in (one, several))
    assert robust < plain
    assert several.settings.formats == 6
    assert several.held_out_loss < several.start_loss


def test_there_are_as_many_formats_as_the_target_tells_apart(given):
    prompt, proxy, target, task, texts = given
    task = replace(task, template="{text} {answer}")
    found = transfer_problem(prompt, proxy, target, task, texts, FORMATS)
    assert (found.settings.formats, found.formats, len(found.lines)) == (1, 1, len(texts))


def test_free_text_keeps_the_proxys_answers_in_every_format(given):
    prompt, proxy, target, task, texts = given
    free = replace(task, labels=(), kind="text", answer_tokens=3)
    problem = transfer_problem(
        prompt, proxy, target, free, texts, replace(FORMATS, space="vocabulary", alpha=0.0)
    )
    count = len(texts)
    assert len(problem.lines) == 3 * count
    for place in (1, 2):
        goals = [line.goal for line in problem.lines[place * count : (place + 1) * count]]
        assert goals == [line.goal for line in problem.lines[:count]]
    lines = [2 * count + text for text in range(count)]
    losses = problem.losses_of(prompt.vectors, lines)
    assert torch.isfinite(losses).all()
    assert not torch.equal(losses, problem.losses_of(prompt.vectors, range(count)))
