"""The guides' blocks and commands, and whether they are true: `python -m tests.guides`, which `make check` runs.

A block that a shell or Python could run stands behind one of two comments:

    <!-- run: NAME -->         tests/end_to_end/test_walkthrough.py carries it out to the letter
    <!-- not run: REASON -->   nothing does, for this reason

Compared with the tree of commands are commands in blocks and in `code`, also those that leave the program out, such
as `round show`; and every verb has to stand in some guide.
"""

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

import client.commands.main
import client.prompts.command
import coordinator.commands.main
import deploy.demo
from transfer.terminal import command_tree

ROOT = Path(__file__).parents[1]
WALK = tuple(
    ROOT / name
    for name in (
        "deploy/README.md",
        "coordinator/README.md",
        "client/prompts/README.md",
        "client/README.md",
    )
)
"""Guides whose blocks are carried out, in this order: one takes up what another left."""
GUIDES = (
    ROOT / "README.md",
    *WALK,
    ROOT / "client" / "GUARANTEE.md",
    ROOT / "client" / "DATA_MODEL.md",
    ROOT / "coordinator" / "DATA_MODEL.md",
    ROOT / "transfer" / "README.md",
    ROOT / "tests" / "README.md",
    ROOT / "tests" / "golden" / "README.md",
    ROOT / ".github" / "CONTRIBUTING.md",
    ROOT / ".github" / "SECURITY.md",
)
PROGRAMS = {
    name: command_tree.command_of(app)
    for name, app in {
        "promptferry": client.prompts.command.app,
        "promptferry-client": client.commands.main.app,
        "promptferry-coordinator": coordinator.commands.main.app,
        "demo.py": deploy.demo.app,
    }.items()
}
DATA = {"toml", "json", ""}
"""Languages of blocks that nothing could run."""

_BLOCK = re.compile(r"(?:<!-- (run|not run): (.+?) -->\n)?```(\w*)\n(.*?)\n```", re.DOTALL)
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_OPTION = re.compile(r"--?[a-z][a-z-]*")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; `run` is its name if it is carried out, `reason` why it is not."""

    guide: Path
    line: int
    language: str
    script: str
    run: str = ""
    reason: str = ""

    @property
    def place(self) -> str:
        """File and line, for people."""
        return f"{_place(self.guide)}:{self.line}"


def blocks(guide: Path) -> list[Block]:
    """The fenced blocks of a guide, in order."""
    text = guide.read_text(encoding="utf-8")
    return [
        Block(
            guide,
            text.count("\n", 0, found.start(4)) + 1,
            found[3],
            found[4] + "\n",
            run=found[2] if found[1] == "run" else "",
            reason=found[2] if found[1] == "not run" else "",
        )
        for found in _BLOCK.finditer(text)
    ]


def verbs(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every verb behind a command, with its nouns."""
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from verbs(each, (*words, name))
    else:
        yield words


def commands(guide: Path) -> Iterator[tuple[int, list[str]]]:
    """What a guide gives as a command, as (line, words)."""
    text = guide.read_text(encoding="utf-8")
    for block in blocks(guide):
        if block.language == "sh":
            for line, said in _logical(block.script):
                if words := _program(said):
                    yield block.line + line, words
    prose = _BLOCK.sub(lambda found: "\n" * found[0].count("\n"), text)
    for found in _CODE.finditer(prose):
        yield prose.count("\n", 0, found.start()) + 1, _words(found[1])


def faults(guides: Sequence[Path] = GUIDES) -> list[str]:
    """What is wrong with the guides, a line each that begins with file and line."""
    told: list[str] = []
    seen: set[tuple[str, ...]] = set()
    for guide in guides:
        told += [
            f"{block.place}: a block of {block.language} needs `<!-- run: NAME -->` or `<!-- not run: REASON -->` "
            "in the line above"
            for block in blocks(guide)
            if block.language not in DATA and not block.run and not block.reason
        ]
        for line, words in commands(guide):
            said, verb = _checked(words)
            seen |= verb
            if said:
                told.append(f"{_place(guide)}:{line}: `{' '.join(words)}`: {said}")
    every = {(name, *words) for name, program in PROGRAMS.items() for words in verbs(program)}
    told += [f"{_place(guides[0])}:1: no guide says `{' '.join(words)}`" for words in sorted(every - seen)]
    return told


def _place(guide: Path) -> Path:
    return guide.relative_to(ROOT) if guide.is_relative_to(ROOT) else guide


def _logical(script: str) -> Iterator[tuple[int, str]]:
    """Lines with their continuations, from 0; not what a here-document holds."""
    whole, start, end = "", 0, ""
    for number, line in enumerate(script.splitlines()):
        if end:
            end = "" if line == end else end
            continue
        start = start if whole else number
        whole += line.removesuffix("\\")
        if not line.endswith("\\"):
            yield start, whole
            end = here[1] if (here := re.search(r"<<'(\w+)'", whole)) else ""
            whole = ""


def _program(line: str) -> list[str]:
    """Words from the name of one of the programs on; none without one."""
    words = _words(line)
    first = next((number for number, word in enumerate(words) if Path(word).name in PROGRAMS), None)
    return [] if first is None else [Path(words[first]).name, *words[first + 1 :]]


def _words(line: str) -> list[str]:
    try:
        return [word.rstrip(";") for word in shlex.split(line, comments=True)]
    except ValueError:
        return line.split()


def _checked(words: list[str]) -> tuple[str, set[tuple[str, ...]]]:
    """What is wrong with a command, or nothing, and the verbs it may be, each behind its program's name."""
    if not words:
        return "", set()
    if words[0] in PROGRAMS:
        said, verb = _followed(words[0], words[1:], strict=True)
        return said, {verb} if verb else set()
    if _OPTION.fullmatch(words[0].partition("=")[0]):
        return ("" if words[0] in _options() else "no program has this option"), set()
    tried = [_followed(name, words, strict=False) for name in PROGRAMS if _starts(name, words)]
    right = {verb for said, verb in tried if not said and verb}
    return ("" if right or not tried else tried[0][0]), right


def _starts(name: str, words: list[str]) -> bool:
    """True if these words can only be a noun of the program with something behind it, or one of its verbs."""
    program = PROGRAMS[name]
    found = program.commands.get(words[0]) if isinstance(program, click.Group) else None
    if isinstance(found, click.Group):
        return len(words) > 1 and re.fullmatch(r"[a-z-]+", words[1]) is not None
    return found is not None


def _followed(name: str, words: list[str], *, strict: bool) -> tuple[str, tuple[str, ...]]:
    """Walk down a program's tree along `words`; `strict` if they were given as a whole command."""
    command, path, given = PROGRAMS[name], [name], list(words)
    known = dict.fromkeys(_flags(command))
    while given:
        word = given.pop(0)
        option = _OPTION.fullmatch(word.partition("=")[0])
        if option and option[0] not in known and option[0] not in ("-h", "--help"):
            return f"`{' '.join(path)}` has no option {option[0]}", ()
        if option and len(path) == 1 and option[0] in ("--dir", "--format") and "=" not in word:
            given[:1] = []
        elif not option and isinstance(command, click.Group):
            if word not in command.commands:
                return f"`{' '.join(path)}` has no command {word}", ()
            command, path = command.commands[word], [*path, word]
            known |= dict.fromkeys(_flags(command))
    whole = not isinstance(command, click.Group)
    return "", tuple(path) if whole else ()


def _flags(command: click.Command) -> list[str]:
    return [flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)]


def _options() -> set[str]:
    """Every option that any of the programs has."""
    found = {"-h", "--help"}
    for program in PROGRAMS.values():
        found |= set(_flags(program))
        for words in verbs(program):
            command = program
            for word in words:
                assert isinstance(command, click.Group)
                command = command.commands[word]
                found |= set(_flags(command))
    return found


if __name__ == "__main__":
    found = faults()
    sys.stderr.write("".join(f"{line}\n" for line in found))
    sys.exit(1 if found else 0)
