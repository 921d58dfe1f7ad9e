"""Rules about the source that no type checker or linter in pyproject.toml holds."""

import ast
import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from transfer.errors import PromptferryError

ROOT = Path(__file__).parents[1]
PACKAGES = ("client", "coordinator", "transfer")
OURS = [*PACKAGES, "promptferry"]
LIBRARIES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
WRITTEN = [*LIBRARIES, *sorted((ROOT / "deploy").rglob("*.py")), ROOT / "proto" / "generate.py"]
MAX_LINES = 250
DOCUMENTED = ast.Module, ast.ClassDef, ast.FunctionDef
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def name_of(path):
    return str(path.relative_to(ROOT))


def calls(path):
    """Every call in a file as (dotted name, its keyword arguments)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: word.value for word in node.keywords}


def imported(path):
    """Every module named in an import of a file, and every name taken from one, dotted."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_other_distribution_owns_our_top_level_names():
    owners = importlib.metadata.packages_distributions()
    taken = {name: set(owners.get(name, [])) - {"promptferry"} for name in OURS}
    assert not any(taken.values()), taken


def test_our_packages_are_imported_from_here():
    for name in PACKAGES:
        assert Path(importlib.import_module(name).__file__).is_relative_to(ROOT)


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_a_written_file_fits_in_250_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_no_file_loads_objects_or_runs_text(path):
    unpickling = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    assert unpickling.isdisjoint(name.partition(".")[0] for name in imported(path))
    for name, keywords in calls(path):
        assert name not in {"eval", "exec", "compile", "__import__", "torch.load", "torch.jit.load"}
        assert "allow_pickle" not in keywords
        trusted = keywords.get("trust_remote_code")
        assert trusted is None or ast.literal_eval(trusted) is False
        assert not (name.startswith("subprocess.") and "shell" in keywords)


@pytest.mark.parametrize("path", LIBRARIES, ids=name_of)
def test_libraries_do_not_print(path):
    assert "print" not in {name for name, _ in calls(path)}


@pytest.mark.parametrize("path", LIBRARIES, ids=name_of)
def test_a_command_that_is_advised_says_in_which_directory(path):
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    told = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    documents = {ast.get_docstring(node, clean=False) for node in nodes if isinstance(node, DOCUMENTED)}
    bare = re.compile(r"`promptferry-(client|coordinator) (?!init)")
    kept = (
        1 if path.name == "participant.py" else 0
    )  # in the ledger, where the same decline is the same words
    assert sum(bool(bare.search(text)) for text in told if text not in documents) == kept, (
        "use transfer.hints"
    )


@pytest.mark.parametrize("path", [path for path in LIBRARIES if path.parts[-2] == "transfer"], ids=name_of)
def test_the_core_reaches_for_no_accountant_but_prv_and_rdp(path):
    accountants = {name.rpartition(".")[2] for name in imported(path) if name.startswith("opacus")}
    assert accountants <= {"PRVAccountant", "RDPAccountant"}


def test_generated_protobuf_code_is_fresh():
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed: nothing to generate with")
    command = [sys.executable, str(ROOT / "proto" / "generate.py"), "--check"]
    here = str(Path(sys.executable).parent)  # where protoc finds its plugin
    path = os.pathsep.join([here, os.environ.get("PATH", "")])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, done.stderr


def subclasses(cls):
    for child in cls.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_error_ends_a_command_with_a_status_of_the_drawn_tree():
    for path in LIBRARIES:
        if re.search(r"class \w+\(\w*Error\)", path.read_text(encoding="utf-8")):
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for cls in subclasses(PromptferryError):
        assert cls.exit_status in range(1, 7)
        assert cls.__module__ == "transfer.errors", f"{cls} belongs in transfer/errors.py"


@pytest.mark.parametrize("command", sorted(PROJECT["scripts"]))
def test_a_console_script_has_something_to_run(command):
    module, _, function = PROJECT["scripts"][command].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def distribution(line):
    """Normalised name of the distribution a requirement asks for."""
    return re.match(r"[\w.-]+", line)[0].lower().replace("_", "-")


def requirement(name):
    (found,) = [line for line in PROJECT["dependencies"] if distribution(line) == name]
    return found


@pytest.mark.parametrize(
    ("name", "cap"),
    [
        ("flwr", r"==1\.41\.\*"),
        ("protobuf", "<7$"),
        ("grpcio-health-checking", r"<1\.82$"),
        ("opacus", r"==1\.6\.\*"),
        ("rich", "<15$"),
        ("typer", r"<0\.21$"),
        ("cryptography", "<51$"),
        ("transformers", "<6$"),
    ],
)
def test_what_may_break_us_is_capped(name, cap):
    assert re.search(cap, requirement(name))


def test_every_import_is_declared_or_comes_with_something_declared():
    owners = importlib.metadata.packages_distributions()
    declared = {distribution(line) for line in PROJECT["dependencies"]}
    companions = {
        distribution(line)
        for name in declared
        for line in importlib.metadata.requires(name) or []
        if "extra ==" not in line
    }
    for path in LIBRARIES:
        tops = {name.partition(".")[0] for name in imported(path)}
        for top in tops - set(OURS) - sys.stdlib_module_names:
            theirs = {distribution(owner) for owner in owners.get(top, [top])}
            assert theirs & (declared | companions), (
                f"{name_of(path)} imports {top}, which nothing declared brings"
            )
