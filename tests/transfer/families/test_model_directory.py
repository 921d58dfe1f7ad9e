"""A model that is nowhere is refused in one line, before PyTorch is imported."""

import pytest

from transfer.errors import ModelError
from transfer.models.loading import load


def test_a_gguf_is_refused_with_what_to_name_instead(tmp_path):
    (tmp_path / "model.Q4.gguf").write_bytes(b"GGUF")
    for source in (tmp_path, tmp_path / "model.Q4.gguf"):
        with pytest.raises(
            ModelError, match=r"GGUF has no gradients.* name the directory with model.safetensors"
        ):
            load(source)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("someone/not-cached", "cannot load"),
        ("no such path/at all/x", "no such directory"),
        ("/nowhere", "no such directory"),
        ("./nowhere", "no such directory"),
    ],
)
def test_a_model_that_is_nowhere_is_refused_in_one_line(source, reason):
    with pytest.raises(ModelError, match=f"^{source}: {reason}") as caught:
        load(source)
    assert "\n" not in str(caught.value)
