from hypothesis import example, given, settings
from hypothesis import strategies as st

from transfer.tokens.batches import Line, buckets, collate


def test_rows_are_padded_on_the_right_to_the_longest():
    batch = collate([Line((5, 6, 7), 2), Line((8,), 0)], pad_id=3)
    assert batch.ids.tolist() == [[5, 6, 7], [8, 3, 3]]
    assert batch.mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert (batch.answer.tolist(), len(batch)) == ([2, 0], 2)


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 60), max_size=40), st.integers(1, 100), st.one_of(st.none(), st.integers(0, 30))
)
@example([70], 50, None)
def test_buckets_hold_every_index_once_and_stay_within_the_bounds(lengths, bound, padding):
    groups = list(buckets(lengths, bound, padding))
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        held = [lengths[index] for index in group]
        assert len(group) == 1 or len(group) * max(held) <= bound
        assert padding is None or len(group) * max(held) - sum(held) <= padding


def test_a_bucket_is_closed_no_earlier_than_it_must():
    assert list(buckets([3, 9, 3, 4], 100, 2)) == [[0, 2, 3], [1]]
    assert list(buckets([3, 9, 3, 4], 10, None)) == [[0, 2], [3], [1]]
