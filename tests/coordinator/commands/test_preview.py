"""`promptferry-coordinator proxy preview`."""

import pytest

PUBLIC = "\n".join(
    f"The {one} was {other}." for one in ("film", "plot", "food") for other in ("bad", "good", "long", "new")
)
TASK = 'name = "reviews"\ntemplate = "{text} It was {answer}"\ninit_text = "A review"\nmax_tokens = 32\n'
WORDS = '[labels]\npositive = ["great", "good"]\nnegative = ["terrible", "bad"]\n'


@pytest.fixture
def given(tmp_path):
    (tmp_path / "public.txt").write_text(PUBLIC)
    (tmp_path / "task.toml").write_text(TASK + WORDS)
    return "--task", tmp_path / "task.toml", "--public-text", tmp_path / "public.txt", "--steps", "3"


def test_a_preview_tells_what_a_proxy_carries_and_spends_nothing(proxied, given):
    found = proxied.json("proxy", "preview", "tiny", *given, "--length", "3")
    assert (found["name"], found["task"], found["texts"]) == ("tiny", "reviews", 2)
    assert all(0 <= found[name] <= 1 for name in ("bare", "proxy", "arithmetic", "transferred", "target"))
    assert proxied("proxy", "preview", "tiny", *given) == 0
    assert "behind the transferred prompt" in proxied.out


def test_what_cannot_be_previewed_is_refused_before_anything_is_loaded(proxied, given, tmp_path):
    assert proxied("proxy", "preview", "large", *given) == 1
    assert "large" in proxied.err
    head = "[labels]\na = []\nb = []\n"
    (tmp_path / "task.toml").write_text(
        TASK.replace("{text} It was {answer}", "{text}") + 'label_reading = "head"\n' + head
    )
    assert proxied("proxy", "preview", "tiny", *given) == 2
    assert "a preview needs label words" in proxied.err
