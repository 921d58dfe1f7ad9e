"""What a wheel brings: it is built and its commands are run away from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETTINGS = {
    "client": ("client.toml", "--name", "a", "--data", "d.jsonl", "--records", "10", "--epsilon", "1"),
    "coordinator": ("coordinator.toml", "--target", "target"),
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A directory with the unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


@pytest.mark.slow
@pytest.mark.parametrize("side", SETTINGS)
def test_init_finds_the_settings_file_that_the_wheel_brings(installed, tmp_path, tiny_causal, side):
    name, *given = SETTINGS[side]
    (tmp_path / "target").symlink_to(tiny_causal)
    (tmp_path / "d.jsonl").write_text('{"text": "a", "label": 0}\n')
    code = (
        f"import {side}.commands.main as cli; assert cli.__file__.startswith({str(installed)!r}); cli.main()"
    )
    subprocess.run(
        [sys.executable, "-P", "-c", code, "init", "made", *given],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        check=True,
        timeout=120,
    )
    assert (tmp_path / "made" / name).read_text()
