"""Columns: a time keeps its instant."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.store.columns import UtcTime


@given(st.datetimes(timezones=st.timezones()))
def test_a_time_keeps_its_instant_where_the_database_forgets_zones(moment: datetime) -> None:
    column = UtcTime()
    try:
        bound = column.process_bind_param(moment, None)
    except OverflowError:
        return  # the first or last hours of the calendar have no UTC
    assert bound is not None
    found = column.process_result_value(bound.replace(tzinfo=None), None)
    assert found is not None
    assert found.timestamp() == moment.timestamp()


def test_a_time_without_zone_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="has no zone"):
        UtcTime().process_bind_param(datetime(2030, 1, 1), None)  # noqa: DTZ001
