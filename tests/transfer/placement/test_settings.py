"""What a placement may say."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from transfer.errors import ConfigError, UsageError
from transfer.files.toml import Settings, load
from transfer.placement.settings import HERE, Placement


class Target(Settings):
    placement: Placement = HERE


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"device": "gpu"}, "device"),
        ({"dtype": "int4"}, "dtype"),
        ({"quantise": "int2"}, "quantise"),
        ({"max_memory": {"cpu": "much"}}, "max_memory"),
    ],
)
def test_an_impossible_value_is_refused_by_its_key(keys: dict[str, object], line: str) -> None:
    with pytest.raises(ValidationError, match=line):
        Placement.model_validate(keys)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"max_memory": {"disk": "1GB"}}, "max_memory 'disk' must be the number of a GPU, or \"cpu\""),
        ({"offload": Path("there")}, "offload needs max_memory"),
        ({"quantise": "int8", "dtype": "float32"}, "int8 weights are multiplied in 16 bits"),
    ],
)
def test_keys_that_do_not_fit_together_are_refused(keys: dict[str, object], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        Placement.model_validate(keys)


def test_a_settings_file_says_where_a_target_is(tmp_path: Path) -> None:
    file = tmp_path / "coordinator.toml"
    file.write_text('[placement]\nmax_memory = { "0" = "70GiB", cpu = "1.5 TB" }\noffload = "layers"\n')
    placement = load(file, Target).placement
    assert placement.max_memory == {"0": "70GiB", "cpu": "1.5 TB"}
    assert placement.offload == tmp_path / "layers"
    assert placement.spread
    file.write_text('[placement]\ndtyp = "float32"\n')
    with pytest.raises(ConfigError, match=r"unknown key 'dtyp' in \[placement\]; did you mean 'dtype'"):
        load(file, Target)
