"""A tiny grid of the quality benchmark on a tiny model, from the command line to the table."""

import json
import math
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from client.private.records import PrivateRecords
from tests.benchmarks import quality
from tests.benchmarks.quality_bench import Bench
from tests.benchmarks.quality_cells import (
    ALL,
    FREE,
    LIBRARY,
    METHODS,
    SHELVED,
    ZERO_SHOT,
    Axes,
    Condition,
    Grid,
    Inputs,
)
from tests.benchmarks.quality_directions import UNLEARNT, low_rank
from tests.benchmarks.quality_federation import Seeded, deal, drawn, tune_together, tunings
from tests.benchmarks.quality_library import LibraryFolder
from tests.benchmarks.quality_plot import svg
from tests.benchmarks.quality_recipe import Recipe
from tests.benchmarks.quality_report import markdown, recovery, rows
from tests.benchmarks.quality_results import Results
from transfer.errors import DataError, UsageError
from transfer.models.loading import load
from transfer.post.settings import TransferSettings
from transfer.privacy import epsilon
from transfer.tasks import Task
from transfer.terminal.console import INTERRUPTED

MEASURED = ("seconds", "tuning_seconds", "peak_mib")

GRID = ["--epsilon", "8,inf", "--clients", "1,3", "--seeds", "2"]


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory):
    """The results file of one run of the whole grid."""
    out = tmp_path_factory.mktemp("run") / "out.json"
    quality.main([*inputs, *GRID, "--out", str(out)])
    return out


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def lasting(path):
    """What must come out the same: all but clock and memory."""
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in lines_of(path)]


def test_every_method_is_measured_in_every_condition_it_depends_on_and_no_other(finished):
    counts = {}
    for line in lines_of(finished):
        counts[line["method"]] = counts.get(line["method"], 0) + 1
        assert 0 <= line["micro"] <= 1
        assert 0 <= line["macro"] <= 1
        assert line["peak_mib"] > 0
        assert (line["tuning_seconds"] > 0) == (line["method"] not in (*ZERO_SHOT, *FREE))
    once, a_seed, noisy, every = 1, 2, 2 * 2, 2 * 2 * 2
    expected = (
        {"same-model": noisy} | dict.fromkeys(ZERO_SHOT, once) | dict.fromkeys((*FREE, "ceiling"), a_seed)
    )
    measured = [method for method in ALL if method not in LIBRARY]
    assert counts == {method: expected.get(method, every) for method in measured}


def test_a_rerun_measures_nothing_again(inputs, finished):
    before = finished.read_bytes()
    quality.main([*inputs, *GRID, "--out", str(finished)])
    assert finished.read_bytes() == before


def test_a_prompt_is_tuned_once_for_all_methods_that_start_from_it(finished):
    prompts = list(finished.with_name("out.json.cache").glob("prompt-*.json"))
    proxy, control, same_model, ceiling = 2 * 2 * 2, 2 * 2 * 2, 2 * 2, 2
    assert len(prompts) == proxy + control + same_model + ceiling


@pytest.mark.slow
def test_a_library_of_other_tasks_is_filled_by_one_run_and_asked_by_the_next(inputs, tmp_path, capfd):
    library, out = tmp_path / "library", tmp_path / "out.json"
    given = [*inputs, "--clients", "1", "--epsilon", "inf", "--out", str(out), "--library", str(library)]
    quality.main([*given, "--methods", "post"])
    (kept,) = library.iterdir()
    other = tmp_path / "other.toml"
    task = inputs[inputs.index("--task") + 1]
    other.write_text(Path(task).read_text().replace('"reviews"', '"other"'))
    asked = [*given, "--task", str(other), "--methods", "post,library,shuffled"]
    quality.main(asked)
    mine = [line for line in lines_of(out) if line["settings"]["task"].startswith("other")]
    assert [line["method"] for line in mine] == ["post", "library", "shuffled"]
    assert [line.get("library") for line in mine] == [None, "reviews", "reviews"]
    told = capfd.readouterr().err
    for line in mine[1:]:
        assert line["kept"] or line["micro"] == mine[0]["micro"]
        assert f"library prompt reviews {'kept' if line['kept'] else 'not kept'}" in told
    before = out.read_bytes()
    quality.main(asked)
    assert out.read_bytes() == before
    assert len(list(library.iterdir())) == 2
    (record,) = folder_of(inputs, out, library, "other").records()
    assert record.name == "reviews"
    told = json.loads(kept.read_text())
    assert record.prompt.vectors.tolist() == told["prompt"]
    assert record.guarantee.epsilon == math.inf


def test_all_methods_are_those_of_a_library_too_if_one_is_given(inputs, tmp_path, capfd):
    given = ["--clients", "1", "--epsilon", "8", "--library", str(tmp_path / "library")]
    quality.main([*inputs, *given, "--out", str(tmp_path / "out.json")])
    lines = {line["method"]: line for line in lines_of(tmp_path / "out.json")}
    assert set(lines) == set(ALL)
    for method in LIBRARY:  # no other task's prompt is there yet
        assert (lines[method]["library"], lines[method]["kept"]) == (None, False)
        assert lines[method]["micro"] == lines["post"]["micro"]
    assert capfd.readouterr().err.count("no library prompt was eligible") == len(LIBRARY)


def test_the_control_has_the_librarys_numbers_and_nothing_it_knew(inputs, tmp_path):
    library, out = tmp_path / "library", tmp_path / "out.json"
    given = [*inputs, "--clients", "1", "--epsilon", "8", "--out", str(out), "--library", str(library)]
    quality.main([*given, "--methods", "post"])
    folder = folder_of(inputs, out, library, "other")
    (record,), (control,) = folder.records(), folder.shuffled(0)
    assert record.guarantee.epsilon == 8
    for name in ("prompt", "proxy_prompt"):
        numbers, mixed = getattr(record, name).vectors, getattr(control, name).vectors
        assert not torch.equal(numbers, mixed)
        assert torch.equal(numbers.flatten().sort().values, mixed.flatten().sort().values)


def folder_of(inputs, out, library, name):
    """The folder as a task of that name sees it."""
    task = Task.from_toml(Path(inputs[inputs.index("--task") + 1]))
    target = load(inputs[inputs.index("--target") + 1])
    (proxy,) = out.with_name("out.json.cache").glob("proxy-*")
    return LibraryFolder(library, replace(task, name=name), target.ref, load(proxy).ref)


def test_post_at_an_end_of_alpha_is_l1_or_l2_and_not_measured_again(inputs, tmp_path, monkeypatch):
    out = tmp_path / "out.json"
    given = [*inputs, "--clients", "1", "--epsilon", "inf", "--out", str(out), "--alpha", "0"]
    quality.main([*given, "--methods", "l1,l2"])
    monkeypatch.setattr(Bench, "measure", lambda *_: pytest.fail("measured again"))
    quality.main([*given, "--methods", "post"])
    one, _, post = lines_of(out)
    assert (post["method"], post["micro"], post["seconds"]) == ("post", one["micro"], one["seconds"])
    assert post["settings"] == one["settings"] | {"transfer_alpha": 0.0}


def test_an_alpha_by_rule_is_told_as_a_number(inputs, tmp_path):
    out = tmp_path / "out.json"
    given = ["--clients", "1", "--epsilon", "inf", "--methods", "post", "--alpha", "agreement"]
    quality.main([*inputs, *given, "--out", str(out)])
    (post,) = lines_of(out)
    assert post["settings"]["transfer_alpha"] == "agreement"
    assert 0 <= post["alpha"] <= 1


def test_asking_a_library_that_is_not_there_is_refused(inputs, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        quality.main([*inputs, "--methods", "library", "--out", str(tmp_path / "out.json")])
    assert ended.value.code == UsageError.exit_status
    assert "needs --library" in capsys.readouterr().err


@pytest.fixture
def embedding(inputs, tiny_encoder, tmp_path):
    """The same of a model without an LM head and a task read by a linear one."""
    (tmp_path / "head.toml").write_text(
        'name = "reviews"\ntemplate = "{text}"\ninit_text = "A review"\nmax_tokens = 32\n'
        'label_reading = "head"\n[labels]\npositive = []\nnegative = []\n'
    )
    return [*inputs, "--target", str(tiny_encoder), "--task", str(tmp_path / "head.toml")]


def test_every_method_is_measured_of_a_model_without_an_lm_head(embedding, tmp_path):
    out = tmp_path / "out.json"
    quality.main([*embedding, "--clients", "1", "--epsilon", "8", "--out", str(out)])
    found = {line["method"]: line["micro"] for line in lines_of(out)}
    assert set(found) == set(ALL) - {*LIBRARY, *FREE}
    assert found["bare"] == found["text"] == found["proxy-bare"]  # without a head the first class is as good
    (prompt, *_) = out.with_name("out.json.cache").glob("prompt-*.json")
    assert len(json.loads(prompt.read_text())["vectors"]) == 2 + 2


def test_a_task_that_the_target_cannot_read_is_refused_before_anything_is_distilled(
    inputs, embedding, tmp_path, capsys
):
    words = inputs[inputs.index("--task") + 1]
    with pytest.raises(SystemExit) as ended:
        quality.main([*embedding, "--task", words, "--out", str(tmp_path / "out.json")])
    assert ended.value.code == UsageError.exit_status
    assert "needs a language-model head" in capsys.readouterr().err
    assert list((tmp_path / "out.json.cache").iterdir()) == []


def test_under_noise_the_public_directions_are_a_setting_of_their_own(inputs, tmp_path):
    out = tmp_path / "out.json"
    given = [*inputs, "--clients", "1", "--epsilon", "8,inf", "--methods", "proxy", "--out", str(out)]
    for dimensions in ("2", "0"):
        quality.main([*given, "--dimensions", dimensions])
    noisy, plain = ([x for x in lines_of(out) if x["settings"]["epsilon"] == e] for e in (8.0, "inf"))
    assert ([line["settings"]["dimensions"] for line in noisy], len(plain)) == ([2, 0], 1)
    assert "public" in noisy[0]["settings"]
    assert "public" not in noisy[1]["settings"]


@pytest.mark.parametrize("directions", ["random", "low-rank"])
def test_rivals_of_the_public_directions_are_as_many_orthonormal_and_other_cells(directions):
    found = UNLEARNT[directions](torch.Size((2, 16)), 8, seed=1).flatten(1)
    torch.testing.assert_close(found @ found.T, torch.eye(8), atol=1e-6, rtol=0)
    told = [
        next(cell for cell in grid(recipe=Recipe(directions=name)).cells() if cell.method == "proxy").settings
        for name in ("public", directions)
    ]
    assert ("public" in told[0], "public" in told[1]) == (True, False)
    assert told[1]["directions"] == directions
    with pytest.raises(UsageError, match="directions 'private' must be one of public"):
        Recipe(directions="private")
    with pytest.raises(UsageError, match="strategy 'sum' is none of"):
        Recipe(strategy="sum")


def test_a_server_optimiser_goes_on_from_all_rounds_of_several_clients(tiny_causal, tiny_task):
    model = load(tiny_causal)
    texts, labels = ["A great film.", "A bad plot.", "Good food.", "A terrible walk."] * 2, [0, 1, 0, 1] * 2
    start = model.text_prompt(tiny_task.init_text, 2)

    def tuned(clients, **changes):
        recipe = Recipe(prompt_length=2, plain_steps=2, plain_lot=2, plain_learning_rate=0.1, **changes)
        condition = Condition(math.inf, clients, 1.0, 0)
        records = PrivateRecords(tuple(texts), tuple(labels))
        return tune_together(
            model, tiny_task, records, [], start, recipe, condition, lambda _done, _all: None
        ).vectors  # fmt: skip

    moved = tuned(2, rounds=1) - start.vectors
    ahead = tuned(2, rounds=2, strategy="fedavgm") - tuned(2, rounds=2)
    torch.testing.assert_close(ahead, 0.9 * moved)
    assert torch.equal(tuned(1, rounds=2, strategy="fedavgm"), tuned(1, rounds=2))


def test_a_prompt_of_low_rank_moves_in_the_rows_of_one_factor():
    found = low_rank(torch.Size((3, 16)), 6, seed=1)  # [P·r, P, H], r = 2
    assert torch.linalg.matrix_rank((torch.randn(6) @ found.flatten(1)).reshape(3, 16)) == 2


@pytest.mark.parametrize("directions", ["random", "low-rank"])
def test_tuning_starts_from_the_prompt_given_and_moves_in_the_directions_given(inputs, tmp_path, directions):
    out, cache = tmp_path / "out.json", tmp_path / "out.json.cache"
    given = [*inputs, "--clients", "1", "--epsilon", "8", "--methods", "proxy", "--out", str(out)]
    quality.main(given)
    (earlier,) = cache.glob("prompt-*.json")
    ours = ["--directions", directions, "--dimensions", "2", "--rounds", "1", "--initial", earlier.name]
    quality.main([*given, *ours])
    (later,) = set(cache.glob("prompt-*.json")) - {earlier}
    before, after = (torch.tensor(json.loads(path.read_text())["vectors"]) for path in (earlier, later))
    allowed, change = UNLEARNT[directions](before.shape, 2, seed=0).flatten(1), (after - before).flatten()
    assert change.norm() > 0
    torch.testing.assert_close(allowed.T @ (allowed @ change), change, atol=1e-6, rtol=0)


def test_tuning_may_start_from_public_text(inputs, tmp_path):
    out = tmp_path / "out.json"
    given = [*inputs, "--clients", "1", "--epsilon", "8", "--methods", "proxy", "--out", str(out)]
    quality.main([*given, "--initial", "public", "--steps", "1", "--learning-rate", "1e-9"])
    quality.main([*given, "--initial", "public", "--steps", "2", "--learning-rate", "1e-9"])
    quality.main([*given, "--steps", "1", "--learning-rate", "1e-9"])
    first, second, text = (
        torch.tensor(json.loads(path.read_text())["vectors"])
        for path in sorted(
            out.with_name("out.json.cache").glob("prompt-*.json"), key=lambda path: path.stat().st_mtime
        )
    )
    torch.testing.assert_close(first, second)  # where tuning began: it hardly moved
    assert not torch.allclose(first, text, atol=1e-3)
    told = [line["settings"] for line in lines_of(out)]
    assert [(line.get("initial"), "public" in line) for line in told] == [("public", True)] * 2 + [
        (None, True)
    ]


def those_of(methods, path):
    """Lines of the cells that the smaller grid of `methods` has, ε 8 and ∞, three clients and one seed."""
    return [
        line
        for line in lasting(path)
        if line["method"] in methods
        and line["settings"].get("seed", 0) == 0
        and line["settings"].get("clients", 3) == 3
    ]


def run_some(inputs, methods, out):
    grid = ["--epsilon", "8,inf", "--clients", "3", "--methods", ",".join(methods)]
    quality.main([*inputs, *grid, "--out", str(out)])


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_an_interrupted_run_ends_with_the_same_file(inputs, finished, tmp_path, capfd, kept):
    methods, out = ("bare", "proxy", "post"), tmp_path / "out.json"
    keys = {line["key"] for line in those_of(methods, finished)}
    whole = b"".join(json.dumps(line).encode() + b"\n" for line in lines_of(finished) if line["key"] in keys)
    out.write_bytes(whole[: int(kept * len(whole))])  # what a power cut leaves, without any cached prompt
    run_some(inputs, methods, out)
    assert lasting(out) == those_of(methods, finished)
    assert ("cut off while it was written" in capfd.readouterr().err) == (kept > 0)


def test_an_interrupted_distillation_is_gone_on_with(inputs, tmp_path, monkeypatch):
    grid = [*inputs, "--distil-steps", "4", "--methods", "proxy-bare"]
    whole, out, steps = tmp_path / "whole.json", tmp_path / "out.json", []
    monkeypatch.setattr(quality, "DistilSettings", partial(quality.DistilSettings, check_every=2))
    quality.main([*grid, "--out", str(whole)])

    def update(_shown, _work, completed=None, **_):
        steps.append(completed)
        if steps == [1, 2, 3]:
            raise KeyboardInterrupt

    monkeypatch.setattr(quality.Progress, "update", update)
    with pytest.raises(SystemExit) as stopped:
        quality.main([*grid, "--out", str(out)])
    assert stopped.value.code == INTERRUPTED
    quality.main([*grid, "--out", str(out)])
    assert steps == [1, 2, 3, 3, 4]  # the checkpoint was of step 2
    assert lasting(out) == lasting(whole)


def test_a_damaged_last_line_is_reported_and_measured_again(inputs, tmp_path, capfd):
    out = tmp_path / "out.json"
    run_some(inputs, ("bare", "proxy-bare"), out)
    before = lasting(out)
    first, last = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(first + last.replace(b'"micro"', b'"mi\xffro"'))
    run_some(inputs, ("bare", "proxy-bare"), out)
    assert lasting(out) == before
    assert "out.json:2: cut off" in capfd.readouterr().err


def test_a_damaged_line_before_the_last_is_refused_and_nothing_is_changed(tmp_path, finished):
    out = tmp_path / "out.json"
    damaged = finished.read_bytes().replace(b'"micro"', b'"mikro"', 1)
    out.write_bytes(damaged)
    with pytest.raises(DataError, match=r"out\.json:1: not a finished cell; remove the line"):
        Results(out, print)
    assert out.read_bytes() == damaged


def test_the_table_says_what_the_cells_say(finished, capsys, tmp_path):
    quality.main(["--report", str(finished), "--out", str(tmp_path / "all.md")])
    table = capsys.readouterr().out
    assert (tmp_path / "all.md").read_text() == table
    assert "![accuracy against ε](all.svg)\n" in table
    plot = ElementTree.fromstring((tmp_path / "all.svg").read_text())  # noqa: S314  # our own
    assert len(plot.findall("{*}g")) == 2  # a panel for one client and one for three
    titles, _, *body = [
        [part.strip() for part in line.strip("| \n").split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    ]
    (row,) = [line for line in body if line[:2] == ["8.0", "3"]]
    told = dict(zip(titles, row, strict=True))
    cells = lines_of(finished)

    def reached(method, **where):
        return [
            100 * cell["micro"]
            for cell in cells
            if cell["method"] == method and where.items() <= cell["settings"].items()
        ]

    post = reached("post", epsilon=8.0, clients=3)
    assert told["**POST**"] == f"{statistics.fmean(post):.1f} ± {statistics.stdev(post):.1f}"
    assert told["zero-shot"] == f"{reached('bare')[0]:.1f}"
    free = max(statistics.fmean(reached(method)) for method in ("bare", "text", *FREE))
    ceiling = statistics.fmean(reached("ceiling"))
    ratio = (statistics.fmean(post) - free) / (ceiling - free) if ceiling > free else None
    assert told["recovery"] == ("–" if ratio is None else f"{ratio:.2f}")
    assert len(body) == 4


def test_a_report_of_nothing_finished_is_empty_and_no_error(tmp_path):
    (tmp_path / "none.json").touch()
    quality.main(["--report", str(tmp_path / "none.json"), "--out", str(tmp_path / "none.md")])
    assert (tmp_path / "none.md").read_text().count("|") == 0
    assert ElementTree.parse(tmp_path / "none.svg").findall("{*}g") == []  # noqa: S314  # our own


def test_recovery_is_of_the_best_answer_that_costs_no_privacy():
    cells = [cell("bare", 0.5), cell("post", 0.8, seed=0), cell("ceiling", 0.9, seed=0)]
    for method, free in (("text", 0.55), ("public-prior", 0.7), ("public-start", 0.6)):
        cells.append(cell(method, free))
    (row,) = rows(cells)
    assert (row.free, row.recovery) == (0.7, pytest.approx(0.5))


def test_recovery_is_the_part_of_the_possible_gain_that_is_kept():
    assert recovery(0.8, 0.6, 0.9) == pytest.approx(2 / 3)
    assert recovery(0.5, 0.6, 0.9) == pytest.approx(-1 / 3)
    assert recovery(0.8, 0.6, 0.6) is None
    assert recovery(0.8, None, 0.9) is None


def cell(method, micro, **settings):
    told = {"target": "model 1", "task": "task 1", **settings}
    return {"method": method, "settings": told, "micro": micro, "macro": micro}


def test_a_setting_with_two_values_becomes_a_column_and_shared_cells_stand_in_both_rows():
    where = {"epsilon": "inf", "clients": 3, "share": 1.0, "partition": "iid", "seed": 0}
    cells = [
        cell("bare", 0.6),
        cell("ceiling", 0.9, seed=0),
        cell("proxy", 0.7, **where),
        cell("post", 0.75, **where, transfer_alpha=0.5),
        cell("post", 0.8, **where, transfer_alpha=1.0),
    ]
    first, second = rows(cells)
    assert [row.names["transfer_alpha"] for row in (first, second)] == [0.5, 1.0]
    assert [row.mean("proxy") for row in (first, second)] == [0.7, 0.7]
    assert [row.recovery for row in (first, second)] == pytest.approx([0.5, 2 / 3])
    table = markdown(cells)
    assert (
        "epsilon ∞, clients 3, share 1.0, partition iid, seeds 1\n\n| transfer_alpha | zero-shot |" in table
    )
    assert "| 0.5 | 60.0 | 70.0 | 75.0 | 90.0 | 0.50 |\n| 1.0 | " in table


def test_the_mean_over_tasks_averages_tasks_and_their_recoveries():
    where = {"epsilon": 8.0, "clients": 3, "share": 1.0, "partition": "iid", "seed": 0}
    cells = []
    for task, post in (("a 1", 0.8), ("b 2", 0.7)):
        cells += [cell("bare", 0.5, task=task), cell("ceiling", 0.9, task=task, seed=0)]
        cells.append(cell("post", post, **where, task=task))
    _, mean = markdown(cells).split("## model, means over tasks")
    assert "epsilon 8.0, clients 3, share 1.0, partition iid, tasks 2\n" in mean
    assert "| 50.0 | 75.0 | 90.0 | 0.62 |" in mean


def test_a_curve_over_epsilon_ends_with_the_one_without_noise_whatever_its_rounds():
    where = {"share": 1.0, "partition": "iid", "seed": 0, "transfer_steps": 5}
    cells = [cell("bare", 0.5)]
    for clients in (1, 3):
        cells += [cell("post", 0.6, epsilon=1.0, clients=clients, rounds=3, **where)]
        cells += [cell("post", 0.7, epsilon="inf", clients=clients, rounds=1, **where)]
    cells += [cell("post", 0.8, epsilon="inf", clients=1, rounds=1, **where | {"transfer_steps": 9})]
    plot = ElementTree.fromstring(svg(rows(cells)))  # noqa: S314  # our own
    panels = [[text.text for text in panel.findall("{*}text")] for panel in plot.findall("{*}g")]
    assert [told[:2] for told in panels] == [["model · task", f"clients {n}"] for n in (1, 3)]
    assert all(told[-2:] == ["ε 1.0", "ε ∞"] for told in panels)


def test_cells_of_one_epsilon_are_drawn_all_the_same():
    where = {"epsilon": 8.0, "clients": 3, "share": 1.0, "partition": "iid"}
    cells = [
        cell("post", 0.5 + seed / 10, **where, seed=seed, task=task)
        for seed in (0, 1)
        for task in ("a 1", "b 2")
    ]
    plot = ElementTree.fromstring(svg(rows(cells)))  # noqa: S314  # our own
    assert len(plot.findall("{*}g")) == 2
    assert len(plot.findall("{*}g/{*}circle")) == 2


def test_every_method_is_drawn_in_a_colour_of_its_own():
    where = {"epsilon": 8.0, "clients": 3, "share": 1.0, "partition": "iid", "seed": 0}
    cells = [cell(method, 0.5, **where) for method in METHODS]
    plot = ElementTree.fromstring(svg(rows(cells)))  # noqa: S314  # our own
    drawn = [dot.get("fill") for dot in plot.findall("{*}g/{*}circle")]
    assert len(set(drawn)) == len(drawn) == len(METHODS)
    assert sorted(line.get("fill") for line in plot.findall("{*}rect[@height='3']")) == sorted(drawn)
    *_, lowest = plot.findall("{*}text")
    assert float(lowest.get("y")) + 10 < float(plot.get("height"))


def grid(**given):
    names = {name: name for name in ("target", "task", "proxy", "private", "public", "test")}
    recipe = given.pop("recipe", Recipe())
    axes = Axes(**{"methods": METHODS, "epsilons": [8.0], "clients": [1, 3], "seeds": 1, **given})
    return Grid(Inputs(**names), recipe, TransferSettings(), axes)


def keys(grid, method):
    return [cell.key for cell in grid.cells() if cell.method == method]


@pytest.mark.parametrize(
    ("changed", "others"),
    [
        ({"recipe": Recipe(test_rows=9)}, set(METHODS)),
        ({"recipe": Recipe(prompt_length=9)}, {*METHODS} - {"bare", "proxy-bare", "public-prior"}),
        ({"recipe": Recipe(steps=9)}, {*ALL} - {*ZERO_SHOT, *FREE, "ceiling"}),
        ({"recipe": Recipe(plain_lot=9)}, {"ceiling"}),
        ({"recipe": Recipe(restarts=9)}, {"ceiling"}),
        ({"inputs": replace(grid().inputs, public="other")}, {*METHODS} - {*ZERO_SHOT, "ceiling"}),
        ({"transfer": TransferSettings(steps=9)}, {"l1", "l2", "post", "undistilled", *SHELVED}),
        ({"inputs": replace(grid().inputs, library="other")}, {*SHELVED}),
        ({"transfer": TransferSettings(alpha=0.9)}, {"post", "undistilled", *LIBRARY}),
        ({"transfer": TransferSettings(formats=4)}, {"l1", "l2", "post", "undistilled", *LIBRARY}),
    ],
)
def test_a_changed_setting_makes_other_cells_of_just_the_methods_it_can_touch(changed, others):
    before, after = grid(), replace(grid(), **changed)
    assert {method for method in METHODS if set(keys(before, method)) != set(keys(after, method))} == others


def test_one_client_of_a_share_and_several_of_that_share_each_come_from_one_call():
    shares = {
        c.condition.clients: c.condition.share for c in grid(share=0.1, each=True, clients=[1, 10]).cells()
    }
    assert shares == {1: 0.1, 10: 1.0}
    together = grid(clients=[10])
    assert set(keys(grid(share=0.1, each=True, clients=[10]), "post")) == set(keys(together, "post"))


@pytest.mark.parametrize("given", [{"methods": ["posts"]}, {"epsilons": [0.0]}, {"share": 0.5, "each": True}])
def test_a_grid_that_makes_no_sense_is_refused(given):
    with pytest.raises(UsageError):
        grid(**given)


def records(count, classes=3):
    return PrivateRecords(
        tuple(f"text {row}" for row in range(count)), tuple(row % classes for row in range(count))
    )


@pytest.mark.parametrize("skew", [None, 0.3, 100.0])
@pytest.mark.parametrize("clients", [1, 3, 10])
def test_every_record_is_dealt_to_exactly_one_client_with_its_label(skew, clients):
    whole = records(300)
    hands = deal(whole, clients, skew, seed=1)
    assert len(hands) == clients
    dealt = sorted(pair for hand in hands for pair in zip(hand.texts, hand.labels, strict=True))
    assert dealt == sorted(zip(whole.texts, whole.labels, strict=True))
    assert [hand.texts for hand in deal(whole, clients, skew, seed=1)] == [hand.texts for hand in hands]


def test_a_small_beta_skews_labels_and_iid_does_not():
    def purity(skew):
        hands = deal(records(900), 5, skew, seed=0)
        return statistics.fmean(max(map(hand.labels.count, range(3))) / len(hand.labels) for hand in hands)

    assert purity(None) < 0.4 < 0.55 < purity(0.3)


@pytest.mark.parametrize("partition", ["skewed", "dirichlet", "dirichlet:0", "dirichlet:x", "dirichlet:inf"])
def test_an_unknown_partition_is_refused(partition):
    with pytest.raises(UsageError, match="neither iid nor dirichlet"):
        Recipe(partition=partition)


def test_noise_is_calibrated_over_all_rounds_and_lots_without_noise_keep_their_size():
    shards = deal(records(300), 3, None, seed=0)
    recipe = Recipe(rounds=2, steps=2, sample_rate=1.0)
    asked = tunings(recipe, Condition(8.0, 3, 1.0, 0), shards)
    assert 7.9 < epsilon([asked[0].spend] * 2, recipe.delta) <= 8.0
    plain = tunings(Recipe(plain_lot=25), Condition(math.inf, 3, 1.0, 0), shards)
    assert [(t.spend.noise_multiplier, t.spend.sample_rate) for t in plain] == [(0.0, 0.25)] * 3


def test_seeded_noise_has_the_scale_of_the_real_one_and_comes_again():
    draws = Seeded(1, 2).integers((200, 100))
    assert draws.std() == pytest.approx(2.0**20, rel=0.02)
    assert (Seeded(1, 2).integers((200, 100)) == draws).all()
    assert Seeded(1, 2).bernoulli(20_000, 0.25).mean() == pytest.approx(0.25, abs=0.02)


def test_rows_are_drawn_without_replacement_by_the_seed_alone():
    assert sorted(drawn(50, 0, 3)) == list(range(50))
    assert drawn(50, 7, 3) == drawn(50, 0, 3)[:7] != drawn(50, 7, 4)


def test_a_quantised_target_is_measured_in_cells_of_its_own(inputs, tmp_path):
    given = [*inputs, "--out", str(tmp_path / "out.json"), "--clients", "1", "--methods", "bare,ceiling,post"]
    quality.main([*given, "--epsilon", "inf"])
    quality.main([*given, "--epsilon", "inf", "--device", "cpu", "--quantise", "nf4"])
    lines = lines_of(tmp_path / "out.json")
    assert [line["method"] for line in lines] == ["bare", "ceiling", "post"] * 2
    names = [line["settings"]["target"].partition(" ")[0] for line in lines]
    assert names == ["lm"] * 3 + ["lm@nf4"] * 3
    assert len(list(tmp_path.glob("out.json.cache/proxy-*/config.json"))) == 1  # of the weights as they are
    with pytest.raises(SystemExit) as ended:
        quality.main([*given, "--quantise", "int4"])
    assert ended.value.code == UsageError.exit_status
