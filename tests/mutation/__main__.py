"""Which small changes of a module would no test notice? `python -m tests.mutation --module client.private.noise`.

Works on a copy of the checkout. Libraries are loaded once; each mutant is a fork of that process which runs the
tests that come past the changed line, the quickest first, until one fails. Survivors must stand, with a reason, in
SURVIVORS.md, or the exit status is 1. What was found goes to a file of results, so that a run cut short by
`--seconds` continues where it stopped; delete the file after a change of the tests.
"""

import argparse
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

from tests.mutation import tests_of
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.selection import Chosen, Traced

ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).with_name("SURVIVORS.md")
LIBRARIES = (
    *("torch", "opacus.optimizers", "opacus.accountants", "peft", "scipy.stats", "hypothesis.strategies"),
    *("transformers.models.llama.modeling_llama", "transformers.models.bert.modeling_bert", "dp_accounting"),
)
INDEPENDENT = (
    "coordinator.delivery.server",
    "coordinator.flower.federation",
    "coordinator.publication.publish",
    "transfer.models.language_model",
)
"""What no module of the client is imported by."""
KILLED, SURVIVED = "killed", "survived"


def main() -> int:
    """Runs what is left of a module's mutants; returns the exit status."""
    options = _options()
    results = options.results or Path(tempfile.gettempdir()) / f"mutation-{options.module}.json"
    found: dict[str, str] = json.loads(results.read_text()) if results.exists() else {}
    left = time.monotonic() + options.seconds
    path = Path(*options.module.split(".")).with_suffix(".py")
    copy = _copied(Path(tempfile.mkdtemp(prefix="mutation-")))
    try:
        source = (copy / path).read_text(encoding="utf-8")
        made = mutants(source)
        todo = [each for each in made if each.key not in found]
        if todo:
            for name in LIBRARIES + (INDEPENDENT if options.module.startswith("client") else ()):
                importlib.import_module(name)
            traced = _traced(copy, path, options.module, results.with_suffix(".lines"))
        for each in todo:
            if time.monotonic() > left:
                return 3
            (copy / path).write_text(each.source, encoding="utf-8")
            found[each.key] = _outcome(copy, each, traced, options.most)
            results.write_text(json.dumps(found, indent=0))
    finally:
        shutil.rmtree(copy)
    return _report(options.module, made, found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--module", required=True, choices=sorted(tests_of.MODULES))
    parser.add_argument("--results", type=Path, help="file that what was found is kept in")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="stop after this long with status 3"
    )
    parser.add_argument("--most", type=float, default=float("inf"), help="seconds of tests for one mutant")
    return parser.parse_args()


def _copied(copy: Path) -> Path:
    """A copy of what git tracks or does not ignore, which this process and its children import from."""
    listed = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, copy / name)
    os.chdir(copy)
    os.environ.update(PYTHONPATH=f"{copy}:{copy / 'proto'}", PYTHONDONTWRITEBYTECODE="1")
    sys.dont_write_bytecode = True  # two mutants of one size within a second would be taken for the same
    ours = ("", str(ROOT), str(ROOT / "proto"))
    sys.path[:] = [str(copy), str(copy / "proto"), *(each for each in sys.path if each not in ours)]
    for name in list(sys.modules):
        if name.partition(".")[0] == "tests" and "mutation" not in name:
            del sys.modules[name]
    return copy


def _traced(copy: Path, path: Path, module: str, kept: Path) -> dict[str, tuple[float, list[int]]]:
    """By test: seconds, and the lines of the module it comes past."""
    if not kept.exists():
        tests = [str(copy / "tests" / name) for name in tests_of.MODULES[module]]
        if _forked(lambda: Traced(copy / path, kept).run(tests), 900) != 0:
            raise SystemExit(f"{module}: its tests fail without a mutant, or none ran")
    return json.loads(kept.read_text())


def _outcome(copy: Path, mutant: Mutant, traced: dict[str, tuple[float, list[int]]], most: float) -> str:
    reached = any(
        mutant.line in lines for _, lines in traced.values()
    )  # on import it is by no test's own doing
    wanted = {0, mutant.line}
    chosen = {test: took for test, (took, lines) in traced.items() if not reached or wanted & set(lines)}
    sums = accumulate(sorted(chosen.values()))
    chosen = dict(sorted(chosen.items(), key=lambda each: each[1])[: sum(total <= most for total in sums)])
    files = sorted({str(copy / test.partition("::")[0]) for test in chosen})
    status = _forked(lambda: Chosen(chosen).run(files), 20 + 4 * sum(chosen.values()))
    return SURVIVED if status == 0 else KILLED


def _forked(work: Callable[[], int], seconds: float) -> int:
    """The exit status of `work` in a child, which ends after `seconds` with whatever it started."""
    child = os.fork()
    if child == 0:
        os.setsid()
        log = os.open(os.environ.get("MUTATION_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        status = 70
        try:
            status = work()
        except BaseException:  # noqa: BLE001 -- a child ends here, whatever happens
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    end = time.monotonic() + seconds
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if ended == (0, 0):
        ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended[1])


def _report(module: str, made: list[Mutant], found: dict[str, str]) -> int:
    """Tells the numbers and every survivor that is not explained."""
    reasons = explained(module)
    outcomes = [(each, found[each.key]) for each in made]
    survivors = [each for each, outcome in outcomes if outcome == SURVIVED]
    open_ones = [each for each in survivors if each.key not in reasons]
    for each in open_ones:
        print(f"{module}:{each.line}: {each.was}\n{'':8}now {each.now}")
    for stale in reasons - {each.key for each in survivors}:
        print(f"{SURVIVORS.name} explains what does not survive: {stale}")
    known = len(survivors) - len(open_ones)
    print(f"{module}: {len(made)} mutants, {len(made) - len(survivors)} killed, {known} explained")
    return 1 if open_ones else 0


def explained(module: str) -> set[str]:
    """Keys in the rows of SURVIVORS.md: | module | `was` | `now` | why |."""
    rows = SURVIVORS.read_text(encoding="utf-8").splitlines() if SURVIVORS.exists() else []
    cells = [re.split(r"(?<!\\) \| ", row.strip("| ")) for row in rows if row.startswith(f"| {module} |")]
    return {" → ".join(cell.strip("`").replace("\\|", "|") for cell in row[1:3]) for row in cells}


if __name__ == "__main__":
    sys.exit(main())
