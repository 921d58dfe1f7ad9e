"""The command line of the quality benchmark, and what it asks for."""

import argparse
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_args

from tests.benchmarks.quality_cells import ALL, BY_LABELS, BY_WORDS, METHODS, SHELVED, Axes
from tests.benchmarks.quality_recipe import Recipe
from transfer.distillation.distil import DistilSettings
from transfer.errors import UsageError
from transfer.placement.settings import Placement
from transfer.post.settings import Agreement, TransferSettings
from transfer.tasks import Task
from transfer.terminal.placement_options import OPTIONS, Placed

OF_TRANSFER = [item for item in fields(TransferSettings) if item.name != "seed"]
OF_RECIPE = {item.name for item in fields(Recipe)}
AS_ARGPARSE: dict[Any, dict[str, Any]] = {
    bool | None: {"action": argparse.BooleanOptionalAction},
    list[str] | None: {"action": "append", "metavar": "DEVICE=SIZE"},
    Path | None: {"type": Path, "metavar": "DIR"},
}


def _number_or_word(text: str) -> float | str:
    with suppress(ValueError):
        return float(text)
    return text


def parser(told: str | None, *, report: bool) -> argparse.ArgumentParser:
    """The command line; of a measurement the inputs are required, of a report only the files."""
    shape = argparse.RawDescriptionHelpFormatter
    words = argparse.ArgumentParser("python -m tests.benchmarks.quality", None, told, formatter_class=shape)
    words.add_argument(
        "--report", type=Path, nargs="+", metavar="OUT", help="tabulate these, measure nothing"
    )
    words.add_argument("--out", type=Path, required=True, help="results file, or the table of a report")
    words.add_argument("--metric", choices=("micro", "macro"), default="micro", help="accuracy in the table")
    words.add_argument("--target", required=not report, help="directory or hub name")
    for name in ("task", "private", "test", "public"):
        words.add_argument(f"--{name}", type=Path, required=not report, metavar="FILE")
    proxy = words.add_mutually_exclusive_group()
    proxy.add_argument("--proxy", type=Path, metavar="DIR", help="a distilled proxy")
    proxy.add_argument("--proxy-layers", type=int, default=2, metavar="N", help="distil one of N layers")
    words.add_argument("--corpus", type=Path, metavar="FILE", help="text to distil on; --public if not given")
    words.add_argument("--distil-steps", type=int, default=DistilSettings().steps)
    words.add_argument("--cache", type=Path, metavar="DIR", help="proxies and tuned prompts; OUT.cache")
    words.add_argument(
        "--library",
        type=Path,
        metavar="DIR",
        help="transferred prompts of several tasks: asked, and added to",
    )
    words.add_argument("--methods", type=_list(str), default=["all"], help=f"all, or {','.join(METHODS)}")
    words.add_argument("--epsilon", type=_list(float), default=[8.0])
    words.add_argument("--clients", type=_list(int), default=[3])
    words.add_argument("--seeds", type=int, default=1, help="how many")
    words.add_argument("--share", type=float, default=1.0, help="part of the private records that is used")
    whose = "whether --share is what all clients hold together, or each of them"
    words.add_argument("--data", choices=("total", "each"), default="total", help=whose)
    for item in fields(Recipe):
        _option(words, item.name, item, item.metadata["help"])
    for item in OF_TRANSFER:
        _option(words, _transfer_option(item.name), item, "see transfer.post.transfer.TransferSettings")
    for name, option in OPTIONS.items():
        kind, told = get_args(option.annotation)
        words.add_argument(f"--{name.replace('_', '-')}", help=told.help, **AS_ARGPARSE.get(kind, {}))
    return words


def placement_of(given: argparse.Namespace) -> Placement:
    """Where the target is, by the options that the commands have, too.

    Raises:
        UsageError: an option has an impossible value.
    """
    return Placed(**{name: getattr(given, name) for name in OPTIONS}).over()


def _list(kind: Any) -> Any:
    return lambda text: [kind(part) for part in text.split(",")]


def _option(words: argparse.ArgumentParser, name: str, item: Field[Any], told: str) -> None:
    default = item.default
    assert default is not MISSING, f"{name} has no default to show"
    simple = type(default) if type(default) in (int, float, str) else json.loads
    kind = _number_or_word if item.type == float | Agreement else simple
    words.add_argument(
        f"--{name.replace('_', '-')}", type=kind, default=default, help=f"{told} (%(default)s)"
    )


def _transfer_option(name: str) -> str:
    return f"transfer_{name}" if name in OF_RECIPE else name


def asked(
    given: argparse.Namespace, task: Task, tell: Callable[[str], object]
) -> tuple[Recipe, TransferSettings, Axes]:
    """What the options ask for of a task; `tell` is told which methods "all" leaves out.

    Raises:
        UsageError: an option makes no sense, alone or with the task.
    """
    recipe = Recipe(**{name: getattr(given, name) for name in OF_RECIPE})
    transfer = TransferSettings(**{i.name: getattr(given, _transfer_option(i.name)) for i in OF_TRANSFER})
    methods, each = _methods(given, task, tell), given.data == "each"
    axes = Axes(methods, given.epsilon, given.clients, given.seeds, given.share, each=each)
    if task.kind == "text" and recipe.skew is not None:
        raise UsageError(f"partition {recipe.partition!r}: free text has no labels to skew; --partition iid")
    return recipe, transfer, axes


def _methods(given: argparse.Namespace, task: Task, tell: Callable[[str], object]) -> list[str]:
    """Those asked for; "all" asks a library if there is one, and leaves PANDA's paper to who names it.

    Raises:
        UsageError: a method is named that cannot be measured here.
    """
    hindered = {} if given.library else dict.fromkeys(SHELVED, "needs --library DIR, filled by other tasks")
    if task.kind == "text":
        hindered |= dict.fromkeys(BY_LABELS, "needs labels, and the task's answers are free text")
    elif not task.has_words:
        hindered |= dict.fromkeys(BY_WORDS, "needs label words, and the task is read by a head")
    if given.methods != ["all"]:
        for method in given.methods:
            if method in hindered:
                raise UsageError(f"method {method!r} {hindered[method]}")
        return list(given.methods)
    left_out = [method for method in ALL if method in hindered]
    if not task.has_words:
        tell(f"all leaves out {', '.join(left_out)}: {hindered[left_out[0]]}")
    return [method for method in ALL if method not in hindered]
