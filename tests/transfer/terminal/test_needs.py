"""Bytes as people read them."""

import pytest

from transfer.terminal.needs import size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "not measured"),
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (2.5e6, "2.5 MB"),
        (141e9, "141.0 GB"),
    ],
)
def test_bytes_have_the_unit_that_fits(count, text):
    assert size(count if count is None else int(count)) == text
