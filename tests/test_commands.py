"""Every command, noun and verb as somebody meets it first: with nothing, with something wrong, and asked for help."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

import client.commands.main
import client.prompts.command
import coordinator.commands.main
from transfer.terminal import command_tree, console

BIN = Path(sys.executable).parent
APPS = {
    "promptferry": client.prompts.command.app,
    "promptferry-client": client.commands.main.app,
    "promptferry-coordinator": coordinator.commands.main.app,
}
MOST_CPU_S = 1.0
WRONG = ("--no-such-option", "no-such-thing")


def walk(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from walk(each, (*words, name))


TREE = [item for name, app in APPS.items() for item in walk(command_tree.command_of(app), (name,))]
NOUNS = [words for words, command in TREE if isinstance(command, click.Group)]
VERBS = [words for words, command in TREE if not isinstance(command, click.Group)]
WORDS = [*NOUNS, *VERBS]
SAMPLE = [*((name,) for name in APPS), ("promptferry-client", "ledger"), ("promptferry-client", "audit")]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended; `cpu_s` counts the process and its children."""

    status: int
    out: str
    err: str
    cpu_s: float = 0.0

    @property
    def complaints(self) -> str:
        """What stands on stderr but for lines of progress, which a slow machine sees."""
        lines = self.err.splitlines(keepends=True)
        return "".join(line for line in lines if not line.endswith(" …\n"))


def process(words: Sequence[str], place: Path) -> Ended:
    """A command in a process of its own, in an empty directory."""
    given = {key: value for key, value in os.environ.items() if not key.startswith("PROMPTFERRY_")}
    with (place / "out").open("w+b") as out, (place / "err").open("w+b") as err:
        started = subprocess.Popen(
            [BIN / words[0], *words[1:]],
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            cwd=place,
            env=given,
        )
        _, status, used = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        told = out.read().decode(), err.read().decode()
    return Ended(started.returncode, *told, used.ru_utime + used.ru_stime)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Commands in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PROMPTFERRY_")]:
        monkeypatch.delenv(name)

    def run(words: Sequence[str]) -> Ended:
        with pytest.raises(SystemExit) as caught:
            console.run(APPS[words[0]], words[1:])
        out, err = capsys.readouterr()
        return Ended(int(caught.value.code or 0), out, err)

    return run


def assert_help(ended: Ended) -> None:
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.lstrip().startswith("Usage: ")
    assert ended.cpu_s <= MOST_CPU_S


def assert_bare(words: Sequence[str], ended: Ended) -> None:
    """A noun shows its help; a verb works, or says in one line what it misses."""
    assert "Traceback" not in ended.out + ended.err
    if words in NOUNS:
        assert (ended.status, ended.out) == (2, "")
        assert ended.err.lstrip().startswith("Usage: ")
        assert "error:" not in ended.err
        assert ended.cpu_s <= MOST_CPU_S
    elif words[-1] == "doctor":
        assert (ended.status, ended.complaints) == (1, "")
    else:
        assert ended.status == 2
        assert re.fullmatch(r"error: [^\n]+\n", ended.complaints), ended.err


def assert_wrong(ended: Ended) -> None:
    assert (ended.status, ended.out) == (2, "")
    assert re.fullmatch(r"error: [^\n]+\n", ended.complaints), ended.err


def test_every_command_is_known_here() -> None:
    scripts = {words[0] for words in NOUNS if len(words) == 1}
    assert scripts == set(APPS)
    assert len(VERBS) >= 40


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_help_is_shown_by_every_command(here, words) -> None:
    assert_help(here([*words, "-h"]))
    assert_help(here([*words, "--help"]))


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_nothing_behind_a_command_is_no_defect(here, words) -> None:
    assert_bare(words, here(words))


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_wrong_words_are_told_in_one_line(here, words) -> None:
    for wrong in WRONG:
        assert_wrong(here([*words, *(["x"] * 3), wrong]) if words in VERBS else here([*words, wrong]))


@pytest.mark.parametrize("words", SAMPLE, ids=" ".join)
def test_processes_answer_at_once_and_without_a_traceback(tmp_path, words) -> None:
    assert_help(process([*words, "-h"], tmp_path))
    assert_bare(words, process(words, tmp_path))
    assert_wrong(process([*words, "--no-such-option"], tmp_path))


@pytest.mark.slow
def test_every_process_answers_at_once_and_without_a_traceback(tmp_path) -> None:
    def meet(number: int) -> None:
        words, place = WORDS[number], tmp_path / str(number)
        place.mkdir()
        assert_help(process([*words, "-h"], place))
        assert_bare(words, process(words, place))
        assert_wrong(process([*words, "--no-such-option"], place))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(meet, range(len(WORDS))))


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_option_and_argument_is_explained_to_the_letter(here, words) -> None:
    """Rich takes [a-z] for markup, and typer loses the help of arguments under some versions of click."""
    (command,) = [command for each, command in TREE if each == words]
    shown = re.sub(r"[│\s]+", "", here([*words, "-h"]).out)
    for parameter in command.params:
        told = parameter.help.replace("\\[", "[")
        assert told, parameter.name
        pieces = re.findall(r"\S+", told)
        assert all(piece in shown for piece in pieces), (parameter.name, told)


@pytest.mark.parametrize("name", APPS)
def test_the_version_is_told(here, name) -> None:
    assert re.fullmatch(r".+ \d+\.\d+\.\d+\n", here([name, "--version"]).out)


@pytest.mark.parametrize("name", APPS)
def test_in_json_a_bare_noun_is_an_error_on_stdout_and_its_help_on_stderr(here, name) -> None:
    nouns = [words for words in NOUNS if words[0] == name]
    for words in nouns[1:]:
        ended = here([name, "--format", "json", *words[1:]])
        assert ended.status == 2
        assert json.loads(ended.out)["error"] == "usage"
        assert ended.err.lstrip().startswith("Usage: ")


@pytest.mark.parametrize("words", [words for words in VERBS if words[-1] in ("show", "verify")], ids=" ".join)
@pytest.mark.parametrize("form", [("--format", "json"), ("--format=json",)], ids=" ".join)
def test_the_format_stands_before_the_verb_or_behind_it(here, words, form) -> None:
    before, behind = here([words[0], *form, *words[1:]]), here([*words, *form])
    assert before == behind
    told = json.loads(before.out)
    assert set(told) == {"error", "message"}
    assert "--format" not in told["message"]


@pytest.mark.parametrize(
    "words", [["plan", "--format"], ["--format"], ["ledger", "show", "--dir"]], ids=" ".join
)
def test_an_option_without_its_value_is_told_as_that(here, words) -> None:
    ended = here(["promptferry-client", *words])
    assert (ended.status, ended.err) == (2, f"error: Option {words[-1]!r} requires an argument.\n")


COMPLETE = """
eval "$({name} --show-completion; true)"
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_{function}_completion {name}
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["promptferry", "fet"], "fetch"),
        (["promptferry-client", "ledger", "decl"], "declare-loss"),
        (["promptferry-coordinator", "proxy", "distil", "--down"], "--download"),
    ],
    ids=str,
)
def test_bash_completes_what_the_command_printed_for_it(tmp_path, words, found) -> None:
    script = COMPLETE.format(name=words[0], words=" ".join(words), function=words[0].replace("-", "_"))
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout, done.stderr) == (f"{found}\n", "")


def test_bash_completion_is_installed_where_bash_looks(tmp_path) -> None:
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path)}
    command = ["bash", "-c", "promptferry-client --install-completion; true"]
    subprocess.run(command, capture_output=True, check=True, env=environment)
    installed = tmp_path / ".bash_completions" / "promptferry-client.sh"
    assert "complete" in installed.read_text()
    assert str(installed) in (tmp_path / ".bashrc").read_text()


EARLY = """
import sys
from pathlib import Path
import client.commands.main, client.prompts.command, coordinator.commands.main
from coordinator.home import directory
from transfer.terminal import console

directory.make(Path("c"), {("target", "source"): "nowhere"}, [])
Path("d.jsonl").write_text('{"text": "a", "label": "x"}')
Path("t.txt").write_text("a text")
Path("task.toml").write_text('name = "n"\\ntemplate = "{text} {answer}"\\ninit_text = "i"\\nmax_tokens = 9\\n'
    '[labels]\\na = ["a"]\\nb = ["b"]\\n')
Path("m").mkdir()
Path("m/config.json").write_text("{}")
for app, words in [
    (client.commands.main.app, "init a --name a --data d.jsonl --epsilon 1 --records 9"),
    (client.commands.main.app, "--dir a run"),
    (client.commands.main.app, "--dir a policy check nofile"),
    (client.commands.main.app, "--dir a data check --task nofile"),
    (client.commands.main.app, "--dir a audit --task nofile"),
    (client.commands.main.app, "--dir a audit --task task.toml --proxy nowhere"),
    (client.commands.main.app, "--dir a audit --task task.toml --public-text nofile.txt"),
    (client.commands.main.app, "--dir a audit --task task.toml --epsilon 0"),
    (client.commands.main.app, "--dir a audit --only membership"),
    (client.commands.main.app, "--dir a proxy fetch n"),
    (client.commands.main.app, "--dir a proxy distil --layers 1 --name n --target nowhere --text t.txt"),
    (client.commands.main.app, "--dir a proxy distil --layers 1 --name n --target m --text nofile.txt"),
    (client.prompts.command.app, "try d --model nowhere --text a --key nofile"),
    (client.prompts.command.app, "verify d --key nofile"),
    (client.prompts.command.app, "fetch p --out o --server 127.0.0.1:1 --ca nofile --key nofile"),
    (coordinator.commands.main.app, "init e --target nowhere"),
    (coordinator.commands.main.app, "--dir c round launch nofile"),
    (coordinator.commands.main.app, "--dir c round show nothing"),
    (coordinator.commands.main.app, "--dir c proxy distil --layers 1 --name n --text t.txt"),
    (coordinator.commands.main.app, "--dir c proxy distil --layers 1 --name n --target m --text nofile.txt"),
    (coordinator.commands.main.app, "--dir c proxy register nowhere --name n"),
    (coordinator.commands.main.app, "--dir c prompt show nothing"),
    (coordinator.commands.main.app, "--dir c prompt transfer nothing"),
    (coordinator.commands.main.app, "--dir c prompt rollback nothing --to 1"),
]:
    try:
        console.run(app, words.split())
    except SystemExit as end:
        assert (end.code == 0) is words.startswith("init a"), words
    assert "torch" not in sys.modules, words
"""


def test_what_is_wrong_with_a_file_or_name_is_told_before_pytorch_is_imported(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EARLY], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: ") == done.stderr.count("\n") == 23
