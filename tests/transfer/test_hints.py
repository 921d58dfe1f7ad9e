import threading
from pathlib import Path

import pytest
import typer

from transfer import hints
from transfer.terminal import console
from transfer.terminal.console import DirectoryOption


def told(capsys, *words):
    """What a command on a directory advises, and what a thread of it does."""
    app = console.application("Some.")
    beside = []

    @app.callback()
    def _options(directory: DirectoryOption = Path()) -> None:
        """Take a directory."""

    @app.command()
    def advise() -> None:
        """Advise."""
        thread = threading.Thread(target=lambda: beside.append(hints.coordinator("serve")))
        thread.start()
        thread.join()
        typer.echo(hints.client("data check"))

    with pytest.raises(SystemExit):
        console.run(app, [*words, "advise"])
    return capsys.readouterr().out.strip(), *beside


def test_an_advised_command_has_the_directory_the_running_one_was_given(capsys):
    assert told(capsys) == ("`promptferry-client data check`", "`promptferry-coordinator serve`")
    here = told(capsys, "--dir", "my clients/a")
    assert here == ("`promptferry-client --dir 'my clients/a' data check`", "`promptferry-coordinator serve`")
    assert hints.client("run", Path("a")) == "`promptferry-client --dir a run`"
