"""Names on the wire say what they name, and come back as what they were made of."""

import pytest

from transfer import names
from transfer.errors import UsageError


@pytest.mark.parametrize("version", [None, 1, 999_999_999])
def test_a_version_is_read_back_from_its_name(version: int | None) -> None:
    assert names.parse_prompt_version(names.prompt_version("themes", version)) == ("themes", version)


def test_a_listing_is_of_one_prompt_or_of_all() -> None:
    for prompt in ("themes", None):
        assert names.parse_prompt_parent(names.prompt_parent(prompt)) == prompt


def test_a_proxy_is_read_back_from_its_name() -> None:
    assert names.parse_proxy(names.proxy("small")) == "small"


@pytest.mark.parametrize("name", ["", "-a", "A", "a" * 64, "a b", "a/b", "ä"])
def test_a_name_that_breaks_the_rule_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=r"prompt name .* must be 1 to 63 of a-z, 0-9 and -"):
        names.prompt_version(name, 1)


@pytest.mark.parametrize(
    "name", ["", "prompts/a", "prompts/a/versions/0", "prompts/a/versions/01", "proxies/a"]
)
def test_what_names_no_version_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not prompts/PROMPT/versions/VERSION"):
        names.parse_prompt_version(name)
