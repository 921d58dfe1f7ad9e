"""Commands recommended in messages, written so that you can run them where you ran the current command."""

import shlex
from pathlib import Path

import click


def client(words: str, directory: Path | None = None) -> str:
    """Return `promptferry-client WORDS` in backquotes, with --dir if it is needed; see `coordinator`."""
    return _command("promptferry-client", words, directory)


def coordinator(words: str, directory: Path | None = None) -> str:
    """Return `promptferry-coordinator WORDS` in backquotes, with --dir if it is needed.

    Args:
        words: verb and arguments.
        directory: value of --dir; None for the value of the running command. Other threads do not know that value, so
            a server's answers reveal no path.
    """
    return _command("promptferry-coordinator", words, directory)


def _command(program: str, words: str, directory: Path | None) -> str:
    context = click.get_current_context(silent=True)
    if directory is None and context is not None:
        directory = context.find_root().params.get("directory")
    option = "" if directory in (None, Path()) else f"--dir {shlex.quote(str(directory))} "
    return f"`{program} {option}{words}`"
