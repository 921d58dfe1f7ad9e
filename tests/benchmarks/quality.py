"""What transferred prompts are worth: every method side by side, on the same rows, in one process.

    python -m tests.benchmarks.quality --target DIR --proxy-layers 2 --corpus corpus.jsonl --task TASK.toml \
        --private train.jsonl --test test.jsonl --public public.jsonl \
        --epsilon 1,3,8,inf --clients 1,3,10 --seeds 3 --methods all --out out.json

Each finished cell is a line of OUT and is not measured again; any changed setting is another cell. Distilled
proxies, unfinished ones too, and tuned prompts are kept beside it. A table (OUT with .md) and a plot (.svg) are
written at the end;

    python -m tests.benchmarks.quality --report a.json b.json --out results.md

makes them of several files. Settings of the transfer that go by a name of tuning have `transfer-` before it.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import MISSING, Field, asdict, fields, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from transformers.utils.logging import disable_progress_bar

from client.private_data import read
from tests.benchmarks.quality_bench import Bench, World
from tests.benchmarks.quality_cells import LIBRARY, METHODS, Axes, Grid, Inputs, digest_of
from tests.benchmarks.quality_library import Shelf
from tests.benchmarks.quality_plot import svg
from tests.benchmarks.quality_recipe import Recipe
from tests.benchmarks.quality_report import markdown, rows
from tests.benchmarks.quality_results import Record, Results, read_all
from transfer.console import INTERRUPTED
from transfer.distillation import DistilSettings, make
from transfer.errors import PromptferryError, UsageError
from transfer.models import LanguageModel, load
from transfer.proxy import Proxy, cut, spread
from transfer.tasks import Task
from transfer.texts import read_texts
from transfer.transfer_settings import TransferSettings

OF_TRANSFER = [item for item in fields(TransferSettings) if item.name != "seed"]
OF_RECIPE = {item.name for item in fields(Recipe)}


def parser(*, report: bool) -> argparse.ArgumentParser:
    """The command line; of a measurement the inputs are required, of a report only the files."""
    shape = argparse.RawDescriptionHelpFormatter
    words = argparse.ArgumentParser(
        "python -m tests.benchmarks.quality", None, __doc__, formatter_class=shape
    )
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
    told = "whether --share is what all clients hold together, or each of them"
    words.add_argument("--data", choices=("total", "each"), default="total", help=told)
    for item in fields(Recipe):
        _option(words, item.name, item, item.metadata["help"])
    for item in OF_TRANSFER:
        _option(words, _transfer_option(item.name), item, "see transfer.post.TransferSettings")
    return words


def _list(kind: Any) -> Any:
    return lambda text: [kind(part) for part in text.split(",")]


def _option(words: argparse.ArgumentParser, name: str, item: Field[Any], told: str) -> None:
    default = item.default
    assert default is not MISSING, f"{name} has no default to show"
    kind = type(default) if type(default) in (int, float, str) else json.loads
    words.add_argument(
        f"--{name.replace('_', '-')}", type=kind, default=default, help=f"{told} (%(default)s)"
    )


def _transfer_option(name: str) -> str:
    return f"transfer_{name}" if name in OF_RECIPE else name


def distilled(given: argparse.Namespace, target: LanguageModel, cache: Path, shown: Progress) -> Proxy:
    """The proxy given, or one distilled here or in an earlier run."""
    if given.proxy:
        return Proxy.load(given.proxy)
    corpus = given.corpus or given.public
    layers = spread(given.proxy_layers, int(target.model.config.num_hidden_layers))
    settings = DistilSettings(steps=given.distil_steps)
    told = {"target": target.ref.digest, "layers": layers, "corpus": _digest(corpus), **asdict(settings)}
    kept = cache / f"proxy-{digest_of(told)}"
    name = f"{target.ref.name}-proxy-{len(layers)}"
    if not kept.exists():
        work = shown.add_task(f"distilling on {corpus.name}", total=settings.steps)
        make(
            target, layers, read_texts(corpus), settings, kept, resume=True,
            on_step=lambda step, _steps: shown.update(work, completed=step),
        )  # fmt: skip
        shown.remove_task(work)
    return Proxy.load(kept, name)


def control_of(proxy: Proxy, target: LanguageModel) -> LanguageModel:
    """The same layers as the proxy's, undistilled.

    Raises:
        UsageError: the proxy was cut from another target.
    """
    if proxy.parent.digest != target.ref.digest:
        raise UsageError(f"proxy {proxy.model.ref.name!r} comes from another target than {target.ref.name!r}")
    ref = replace(target.ref, name=f"{target.ref.name}-cut-{'-'.join(map(str, proxy.layers))}")
    return LanguageModel(cut(target, proxy.layers), target.tokenizer, ref, target.lm_head)


def bench_of(given: argparse.Namespace, shown: Progress) -> Bench:
    """Everything loaded, and the grid to measure."""
    recipe = Recipe(**{name: getattr(given, name) for name in OF_RECIPE})  # refused now or after hours
    transfer = TransferSettings(**{i.name: getattr(given, _transfer_option(i.name)) for i in OF_TRANSFER})
    methods = _methods(given)
    axes = Axes(methods, given.epsilon, given.clients, given.seeds, given.share, each=given.data == "each")
    cache = given.cache or given.out.with_name(f"{given.out.name}.cache")
    cache.mkdir(parents=True, exist_ok=True)
    target, task = load(given.target), Task.from_toml(given.task)
    target.encoder(task)  # refused now or after the distillation
    proxy = distilled(given, target, cache, shown)
    shelf = Shelf(given.library, task, target.ref, proxy.model.ref) if given.library else None
    world = World(
        target, proxy.model, control_of(proxy, target), task,
        read(given.private, task.label_names), read_texts(given.public), read(given.test, task.label_names),
        shelf,
    )  # fmt: skip
    inputs = Inputs(
        target=f"{target.ref.name} {target.ref.digest[:16]}",
        task=f"{task.name} {digest_of(asdict(task))}",
        proxy=f"{len(proxy.layers)}-layers-kl-{proxy.held_out_kl:.3f} {proxy.model.ref.digest[:16]}",
        private=f"{given.private.name} {_digest(given.private)}",
        public=f"{given.public.name} {_digest(given.public)}",
        test=f"{given.test.name} {_digest(given.test)}",
        library=shelf.digest if shelf else "",
    )
    if proxy.model.width != target.width:  # not defined between widths
        axes = replace(axes, methods=[method for method in methods if method != "direct"])
    work = shown.add_task("", total=None)
    return Bench(
        world, Grid(inputs, recipe, transfer, axes), cache,
        lambda name, step, steps: shown.update(work, description=name, completed=step, total=steps),
    )  # fmt: skip


def _methods(given: argparse.Namespace) -> list[str]:
    """Those asked for; "all" does not ask a library, which is a second pass over prompts of a first.

    Raises:
        UsageError: a library is to be asked, and none given.
    """
    if given.methods == ["all"]:
        return [method for method in METHODS if method not in LIBRARY]
    if not given.library and (asked := [method for method in given.methods if method in LIBRARY]):
        raise UsageError(f"method {asked[0]!r} needs --library DIR, filled by runs of other tasks")
    return list(given.methods)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UsageError(f"{path}: cannot read: {error.strerror}") from error


def measure(given: argparse.Namespace, console: Console) -> list[Record]:
    """Measure every cell that OUT does not have yet; return those of this grid."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as shown:
        results = Results(given.out, console.print)
        bench = bench_of(given, shown)
        cells = list(bench.grid.cells())
        overall = shown.add_task("cells", total=len(cells))
        for cell in cells:
            if cell.key not in results:
                record = results.renamed(cell, bench.grid.twin(cell)) or bench.measure(cell)
                results.append(record)
                console.print(_told(record))
            shown.advance(overall)
    keys = {cell.key for cell in cells}
    return [record for record in results.records if record["key"] in keys]


def _told(record: Record) -> str:
    names = ("epsilon", "clients", "partition", "share", "seed")
    where = " ".join(f"{name} {record['settings'][name]}" for name in names if name in record["settings"])
    seconds = f"{record['seconds']:.1f} s + {record['tuning_seconds']:.1f} s of tuning"
    return f"{record['method']:12} {record['micro']:6.1%}  {seconds}, {record['peak_mib']} MiB  {where}"


def write_report(records: Sequence[Record], out: Path, metric: str) -> str:
    """Write the table to OUT with .md and the plot with .svg; return the table."""
    table = markdown(records, metric)
    out.with_suffix(".md").write_text(table, encoding="utf-8")
    out.with_suffix(".svg").write_text(svg(rows(records, metric)), encoding="utf-8")
    return table


def main(arguments: Sequence[str]) -> None:
    """Measure or report."""
    given = parser(report="--report" in arguments).parse_args(arguments)
    disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers' own would write over ours
    console = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    try:
        records = read_all(given.report, console.print) if given.report else measure(given, console)
        print(write_report(records, given.out, given.metric), end="")
    except PromptferryError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main(sys.argv[1:])
