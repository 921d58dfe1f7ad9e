import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.panda.scores import (
    alignment,
    answer_states,
    cosine,
    descent_cosine,
    effect_cosines,
    leep,
    task_similarity,
)
from transfer.prompt import SoftPrompt


def test_effects_are_compared_after_the_librarys_mean_is_taken_away():
    library = torch.tensor([[5.0, 1.0], [5.0, -1.0]])  # both move a state by 5 along the first axis
    assert effect_cosines(torch.tensor([5.0, 2.0]), library).tolist() == pytest.approx([1.0, -1.0])
    assert effect_cosines(torch.tensor([6.0, 0.0]), library).tolist() == pytest.approx([0.0, 0.0])


def test_a_single_prompt_is_compared_as_it_stands():
    assert effect_cosines(torch.tensor([1.0, 0.0]), torch.tensor([[1.0, 1.0]])).item() == pytest.approx(
        math.sqrt(0.5)
    )


def test_alignment_is_the_cosine_of_centred_gram_matrices():
    ours = torch.tensor([[1.0], [-1.0], [0.0]])
    theirs = torch.tensor([[1.0], [0.0], [-1.0]])
    # G = vvᵀ for centred v, so ⟨G, G′⟩ = (v·v′)² = 1 and ‖G‖·‖G′‖ = |v|²·|v′|² = 4
    assert alignment(ours, theirs) == pytest.approx(0.25)


@given(st.integers(0, 1000), st.floats(0.1, 10))
@settings(deadline=None, max_examples=25)
def test_alignment_knows_neither_size_nor_turn_nor_shift_and_stays_between_0_and_1(seed, size):
    generator = torch.Generator().manual_seed(seed)
    effects = torch.randn(7, 3, generator=generator)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
    assert alignment(effects, size * effects @ turn + 4.0) == pytest.approx(1.0, abs=1e-4)
    assert 0 <= alignment(effects, torch.randn(7, 5, generator=generator)) <= 1


def test_a_prompt_that_moves_every_text_alike_is_aligned_with_nothing():
    assert alignment(torch.ones(4, 2), torch.randn(4, 3)) == 0.0


def test_leep_is_0_when_the_other_answers_tell_everything_and_the_entropy_when_nothing():
    sure = torch.tensor([[40.0, 0.0], [0.0, 40.0]])
    assert leep(sure, sure.flip(1)) == pytest.approx(0.0, abs=1e-9)
    assert leep(sure, torch.zeros(2, 3)) == pytest.approx(math.log(0.5))


def test_leep_by_hand_with_label_sets_of_different_size():
    new = torch.tensor([[0.75, 0.25], [0.25, 0.75]]).log()
    other = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]).clamp_min(1e-30).log()
    # z = 0 comes with the first text alone, z = 1, 2 with the second: P(y|z) is that text's own answer
    expected = 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    assert leep(new, other) == pytest.approx(expected, abs=1e-6)


def test_the_first_step_may_point_to_a_library_prompt_or_away_from_it():
    start, gradient = torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert descent_cosine(gradient, start, -3 * gradient) == pytest.approx(1.0)
    assert descent_cosine(gradient, start, gradient) == pytest.approx(-1.0)
    assert descent_cosine(gradient, start, torch.zeros(3, 2)) is None


def test_the_papers_score_is_the_cosine_of_mean_states():
    ours = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    assert task_similarity(ours, torch.tensor([[1.0, 1.0]])) == pytest.approx(math.sqrt(0.5))


def test_nothing_has_no_direction():
    assert cosine(torch.zeros(2, 2), torch.ones(2, 2)) == 0.0


def test_states_stand_at_the_answer_behind_the_prompt_whatever_the_batch(model, tiny_task):
    lines = model.encoder(tiny_task).encode(["We liked the film.", "The plot was long and the food was bad."])
    prompt = SoftPrompt(torch.randn(3, model.width, generator=torch.Generator().manual_seed(0)), model.ref)
    for front in (prompt, None):
        states = answer_states(model, lines, front)
        for line, state in zip(lines, states, strict=True):
            embeds = model.model.get_input_embeddings()(torch.tensor([line.ids]))
            if front:
                embeds = torch.cat([front.vectors.unsqueeze(0), embeds], dim=1)
            alone = model.model.base_model(inputs_embeds=embeds).last_hidden_state[0]
            assert torch.allclose(state, alone[line.answer + (front.length if front else 0)], atol=1e-5)
    assert not states.requires_grad
