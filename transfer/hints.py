"""Commands that messages advise, spelt so that whoever reads them can type them where the running one was typed."""

import shlex
from pathlib import Path

import click


def client(words: str, directory: Path | None = None) -> str:
    """`promptferry-client WORDS` in backquotes, with a --dir where one is needed; see `coordinator`."""
    return _command("promptferry-client", words, directory)


def coordinator(words: str, directory: Path | None = None) -> str:
    """`promptferry-coordinator WORDS` in backquotes, with a --dir where one is needed.

    Args:
        words: verb and arguments.
        directory: what --dir has to name; None for what the running command was given. A thread beside it knows of
            none, so what a server answers tells nobody its paths.
    """
    return _command("promptferry-coordinator", words, directory)


def _command(program: str, words: str, directory: Path | None) -> str:
    context = click.get_current_context(silent=True)
    if directory is None and context is not None:
        directory = context.find_root().params.get("directory")
    given = "" if directory in (None, Path()) else f"--dir {shlex.quote(str(directory))} "
    return f"`{program} {given}{words}`"
