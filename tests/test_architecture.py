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
MAX_MODULES = 12
FOLDERS = sorted({path.parent for path in LIBRARIES if "versions" not in path.parts})
MODULES = [path for path in LIBRARIES if path.name != "__init__.py" and "migrations" not in path.parts]
TESTED_ELSEWHERE = {
    # values: no more than fields and their meaning
    "client.audit.finding": "each audit's tests read its fields",
    "client.audit.glossary": "words; tests/client/audit/test_page.py shows them",
    "coordinator.home.identity": "values read from the keys that test_pki.py makes",
    "coordinator.publication.workload": "values; test_sizing.py",
    "coordinator.store.records": "values; every test of the store writes and reads them",
    "coordinator.store.round_tables": "test_tables.py compares all tables with the migrations",
    "transfer.families.traits": "test_probe.py and test_probe_cache.py find and remember them",
    "transfer.protocol.tuning_defaults": "coordinator/rounds/test_plan_file.py reads the plan that documents them",
    "transfer.protocol.prompt_lineage": "test_prompt_statement.py: a part of that schema",
    "client.ledger.reservation": "test_ledger.py and test_crash.py: what is spent, and when it may be used again",
    # seams: tested by what stands at their ends
    "client.daemon.polling": "tests/coordinator/flower runs both ends of Flower together",
    "client.daemon.node": "tests/coordinator/flower runs both ends of Flower together",
    "coordinator.flower.app_bundle": "tests/coordinator/flower starts every run with it",
    "coordinator.network.https_server": "tests/coordinator/flower meets it from outside",
    "coordinator.rounds.fleet": "a protocol; tests/coordinator/flower/test_federation.py is about what keeps it",
    "transfer.protocol.tuning_table": "both sides read it: coordinator/rounds/test_plan.py",
    # parts of commands: tested by the command
    "client.audit.shadow_settings": "test_membership.py and test_audit.py tune as they say",
    "client.commands.audit_inputs": "test_audit.py: what cannot be audited",
    "client.home.directory": "tests/client/commands/test_main.py: `init`",
    "client.private.lengths": "tests/client/commands/test_data_check.py and test_dataset.py",
    "client.rounds.forecast": "tests/client/commands/test_plan.py",
    "coordinator.commands.library_table": "tests/coordinator/publication/test_library.py",
    "coordinator.commands.session": "every test of tests/coordinator/commands starts from one",
    "coordinator.home.directory": "tests/coordinator/commands/test_main.py: `init`",
    "transfer.terminal.distil_options": "both sides' test_proxy.py",
    "transfer.terminal.dry_run": "both sides' test_proxy.py",
    "transfer.terminal.doctor": "both sides' test_doctor.py",
    "transfer.terminal.session": "every command starts from one",
}
"""By module without a test file of its name: where its behaviour is held."""
OPTIONAL = {"transfer/files/parquet.py": "pyarrow"}
"""By file: the distribution of an extra that it imports where it is used, and says so if it is missing."""
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


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_a_folder_holds_no_more_modules_than_a_reader_takes_in(folder):
    modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MAX_MODULES


@pytest.mark.parametrize("room", [folder for folder in FOLDERS if folder.parent.parent == ROOT], ids=name_of)
def test_a_room_says_in_one_sentence_what_it_is_for(room):
    sign = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
    assert sign is not None
    assert re.fullmatch(r"[A-Z`].{20,}\.", sign), sign
    assert ". " not in sign


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_has_a_test_file_of_its_name_or_a_reason_to_have_none(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    folder = ROOT / "tests" / path.relative_to(ROOT).parent
    found = any(re.fullmatch(rf"test_{path.stem}(_\w+)?", test.stem) for test in folder.glob("test_*.py"))
    assert found != (module in TESTED_ELSEWHERE)


def test_every_reason_is_about_a_module_that_is_there():
    assert TESTED_ELSEWHERE.keys() <= {
        ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES
    }


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
    kept = 1 if path.name == "decline.py" else 0  # in the ledger, where the same decline is the same words
    assert sum(bool(bare.search(text)) for text in told if text not in documents) == kept, (
        "use transfer.hints"
    )


@pytest.mark.parametrize(
    "path", [path for path in LIBRARIES if path.relative_to(ROOT).parts[0] == "transfer"], ids=name_of
)
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
            assert theirs & (declared | companions | {OPTIONAL.get(name_of(path))}), (
                f"{name_of(path)} imports {top}, which nothing declared brings"
            )
