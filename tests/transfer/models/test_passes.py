"""The shape of a private pass follows from a record's own length and from nothing else that is private."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transfer.models.forward_size import TOKENS_ELSEWHERE
from transfer.models.passes import LEAST_TOKENS, Manners, Passes, Shape, filled
from transfer.tokens.batches import FORWARD_TOKENS, UNCOUNTED, Line

LENGTHS = st.lists(st.integers(1, 70), min_size=1, max_size=40)
MANNERS = st.builds(Manners, padded=st.booleans(), apart=st.booleans(), room=st.none() | st.integers(70, 80))


def line(length: int, goal: int = 0) -> Line:
    return Line(tuple(range(3, 3 + length)), length - 1, tuple(range(goal)))


@given(LENGTHS, MANNERS, st.integers(16, 600), st.integers(1, 3))
def test_each_line_is_in_one_pass_of_the_shape_that_it_would_have_alone(lengths, manners, tokens, copies):
    passes, lines = Passes(tokens, 64), [line(length) for length in lengths]
    seen = []
    for shape, group in passes.groups(lines, range(len(lines)), 5, copies, manners):
        assert 1 <= len(group) <= shape.records
        assert group == sorted(group), "a user's records keep their order, whoever else is there"
        for index in group:
            ((alone, _),) = passes.groups([lines[index]], [0], 5, copies, manners)
            assert shape == alone
        seen += group
    assert sorted(seen) == list(range(len(lines)))


@given(LENGTHS, MANNERS)
def test_a_pass_has_its_shape_and_a_padded_one_ends_in_padding(lengths, manners):
    lines = [line(length) for length in lengths]
    for shape, group in Passes(100, 64).groups(lines, range(len(lines)), 5, 1, manners):
        batch = filled([lines[index] for index in group], shape, 9)
        assert batch.ids.shape == (shape.records, shape.tokens)
        for row, index in enumerate(group):
            assert batch.ids[row, : lengths[index]].tolist() == list(lines[index].ids)
            assert batch.mask[row].sum() == lengths[index]
        whole = not (manners.padded and manners.apart) or shape.tokens == lengths[group[0]]
        assert bool(batch.mask.all()) if whole else not batch.mask[:, -1].any()


@given(st.integers(1, 64))
def test_padding_is_little_and_never_beyond_the_longest_line(length):
    tokens = Passes(300, 64).shape(line(length), 5, 1, Manners()).tokens
    assert length < tokens <= min(65, max(4, 1.5 * (length + 1)))


def test_where_positions_leave_no_room_for_padding_a_line_has_a_pass_of_its_own():
    shape = Passes(300, 64).shape(line(64), 5, 1, Manners(room=64))
    assert shape == Shape(1, 64, 0)
    assert Passes(300, 64).shape(line(64), 5, 1, Manners(room=65)).records > 1


@pytest.mark.parametrize(("goal", "wanted"), [(1, 4), (4, 4), (5, 6), (7, 8)])
def test_answers_in_free_text_are_read_at_a_fixed_number_of_places(goal, wanted):
    lines = [line(20, goal)]
    ((shape, _),) = Passes(300, 64).groups(lines, [0], 5, 1)
    batch = filled(lines, shape, 9)
    assert batch.goal.shape == (shape.records, wanted)
    assert batch.goal[0].tolist() == [*range(goal), *[UNCOUNTED] * (wanted - goal)]
    assert (batch.goal[1:] == UNCOUNTED).all()


def test_the_size_of_a_pass_follows_the_expected_records_and_the_width():
    sizes = [Passes.expecting(records, 64, 768).tokens for records in (0, 20, 100, 500, 10**6)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (LEAST_TOKENS, FORWARD_TOKENS)
    assert Passes.expecting(100, 64, 256).tokens > Passes.expecting(100, 64, 768).tokens
    gpu = [Passes.expecting(records, 64, 576, torch.device("cuda")).tokens for records in (20, 100, 10**6)]
    assert sizes[1] < gpu[0] < gpu[1] < gpu[2] == TOKENS_ELSEWHERE
