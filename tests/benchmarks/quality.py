"""What transferred prompts are worth: every method side by side, on the same rows, in one process.

    python -m tests.benchmarks.quality --target DIR --proxy-layers 2 --corpus corpus.jsonl --task TASK.toml \
        --private train.jsonl --test test.jsonl --public public.jsonl \
        --epsilon 1,3,8,inf --clients 1,3,10 --seeds 3 --methods all --out out.json

Each finished cell is a line of OUT and is not measured again; any changed setting is another cell. Distilled
proxies, unfinished ones too, and tuned prompts are kept beside it. At the end a table (OUT with .md), a plot
(.svg) and every row's figures with their spread over seeds (.summary.json, see `quality_summary`) are written;

    python -m tests.benchmarks.quality --report a.json b.json --out results.md

makes them of several files. With --library the methods that ask other tasks' prompts are measured too, and tell
which prompt was tried and whether it was kept; `paper`, PANDA with labels in one place, only if it is named. Of a
task whose answers are free text, accuracy is exact match, and public text is compared by --space vocabulary.
Under noise a plan tunes free text whole, which is --dimensions 0 --learning-rate 0.02 here. Settings of the transfer
that go by a name of tuning have `transfer-` before it.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from transformers.utils.logging import disable_progress_bar

from client.private.records import read
from tests.benchmarks.quality_bench import Bench
from tests.benchmarks.quality_cells import Grid, Inputs, described, digest_of
from tests.benchmarks.quality_library import LibraryFolder
from tests.benchmarks.quality_options import asked, parser, placement_of
from tests.benchmarks.quality_paper import sources
from tests.benchmarks.quality_plot import svg
from tests.benchmarks.quality_report import markdown, rows
from tests.benchmarks.quality_results import Record, Results, read_all
from tests.benchmarks.quality_summary import document, summary
from tests.benchmarks.quality_world import World, in_numbers
from transfer.distillation.distil import DistilSettings, make
from transfer.distillation.layers import spread
from transfer.distillation.proxy import Proxy, cut
from transfer.errors import PromptferryError, UsageError
from transfer.files import public_text
from transfer.files.public_text import PublicText, read_texts
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.post.compatibility import check_possible
from transfer.tasks import Task
from transfer.terminal.console import INTERRUPTED


def distilled(given: argparse.Namespace, target: LanguageModel, cache: Path, shown: Progress) -> Proxy:
    """The proxy given, or one distilled here or in an earlier run."""
    beside = placement_of(given).beside
    if given.proxy:
        return Proxy.load(given.proxy, placement=beside)
    corpus = given.corpus or given.public
    layers = spread(given.proxy_layers, target.layers)
    settings = DistilSettings(steps=given.distil_steps)
    told = {
        "target": f"{target.ref.digest}{in_numbers(target)}",
        "layers": layers,
        "corpus": _digest(corpus),
        **asdict(settings),
    }
    kept = cache / f"proxy-{digest_of(told)}"
    name = f"{target.ref.name}-proxy-{len(layers)}"
    if not kept.exists():
        work = shown.add_task(f"distilling on {corpus.name}", total=settings.steps)
        make(
            target, layers, PublicText.of(corpus), settings, kept, resume=True,
            on_step=lambda step, _steps: shown.update(work, completed=step),
        )  # fmt: skip
        shown.remove_task(work)
    return Proxy.load(kept, name, beside)


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
    task = Task.from_toml(given.task)
    recipe, transfer, axes = asked(given, task, shown.console.print)
    cache = given.cache or given.out.with_name(f"{given.out.name}.cache")
    cache.mkdir(parents=True, exist_ok=True)
    placement = placement_of(given)
    target, public = load(given.target, placement=placement), read_texts(given.public)
    private, test = (read(path, task.label_names, many=task.many) for path in (given.private, given.test))
    check_possible(target, target, task, public, transfer)  # refused now or after the distillation
    whole = target
    if placement.quantise != "none":  # whose weights no proxy can be cut from
        whole = load(given.target, placement=placement.model_copy(update={"quantise": "none"}))
    proxy = distilled(given, whole, cache, shown)
    library = LibraryFolder(given.library, task, target.ref, proxy.model.ref) if given.library else None
    if library and "paper" in axes.methods:
        sources(library)  # refused now or after hours
    world = World(
        target, proxy.model, control_of(proxy, whole), task,
        private, public, test, library,
    )  # fmt: skip
    inputs = Inputs(
        target=f"{target.ref.name}{in_numbers(target)} {target.ref.digest[:16]}",
        task=f"{task.name} {digest_of(described(task))}",
        proxy=f"{len(proxy.layers)}-layers-kl-{proxy.held_out_kl:.3f}{in_numbers(proxy.model)} "
        f"{proxy.model.ref.digest[:16]}",
        private=f"{given.private.name} {_digest(given.private)}",
        public=f"{given.public.name} {_digest(given.public)}",
        test=f"{given.test.name} {_digest(given.test)}",
        library=library.digest if library else "",
    )
    if proxy.model.width != target.width:  # not defined between widths
        axes = replace(axes, methods=[method for method in axes.methods if method != "direct"])
    work = shown.add_task("", total=None)
    return Bench(
        world, Grid(inputs, recipe, transfer, axes), cache,
        lambda name, step, steps: shown.update(work, description=name, completed=step, total=steps),
    )  # fmt: skip


def _digest(path: Path) -> str:
    return public_text.digest_of(path)[:16]


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
    reached = f"{record['method']:12} {record['micro']:6.1%}"
    return f"{reached}  {seconds}, {record['peak_mib']} MiB  {where}{_chosen(record)}"


def _chosen(record: Record) -> str:
    """What became of a library, if one was asked."""
    if "library" not in record:
        return ""
    if record["library"] is None:
        return "  no library prompt was eligible"
    return f"  library prompt {record['library']} {'kept' if record['kept'] else 'not kept'}"


def write_report(records: Sequence[Record], out: Path, metric: str) -> str:
    """Write the table to OUT with .md, the plot with .svg and the figures with .summary.json; return the table."""
    plot = out.with_suffix(".svg")
    plot.write_text(svg(rows(records, metric)), encoding="utf-8")
    table = markdown(records, metric) + f"\n![accuracy against ε]({plot.name})\n"
    out.with_suffix(".md").write_text(table, encoding="utf-8")
    out.with_suffix(".summary.json").write_text(document(summary(records)), encoding="utf-8")
    return table


def main(arguments: Sequence[str]) -> None:
    """Measure or report."""
    given = parser(__doc__, report="--report" in arguments).parse_args(arguments)
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
