"""Several processes distil what one does, up to rounding: real ones, which the real torchrun starts."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.transfer.distillation import many, torchrun
from tests.transfer.distillation.lessons import proxy_of, weights
from transfer.distillation.processes import ALONE, Processes
from transfer.distillation.proxy import Proxy

NEAR = 1e-3
"""Largest distance of two proxies, as a share of the way that training went. Their gradients are float32 sums of the
same numbers in another order, 2⁻²⁴ apart for each addition; Adam divides the smallest of them by numbers as small."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_causal, tiny_masked, tiny_encoder) -> Path:
    """A folder with the targets, and with two distillations that one process left at step 6."""
    place = tmp_path_factory.mktemp("many")
    for kind, source in (("causal", tiny_causal), ("masked", tiny_masked), ("encoder", tiny_encoder)):
        shutil.copytree(source, place / kind)
    for mark in ("whole", "divided"):
        many.begun(place, "causal", place / f"alone-{mark}")
    return place


def driver(folder, mode):
    return sys.executable, "-m", many.__name__, folder, mode


def far(ours, theirs):
    return torch.cat([(ours[name].double() - theirs[name].double()).flatten() for name in theirs]).norm()


def require_near(folder, case, *names):
    """Hold each stored proxy against the one that this process distils alone."""
    alone = many.distilled(folder, case)
    start, end = weights(cut_of(many.loaded(folder, case.partition("-")[0]))), weights(alone)
    for name in names:
        ours = load_file(folder / f"{name}.safetensors")
        kl, perplexity, steps = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        assert ours.keys() == end.keys()
        assert far(ours, end) < NEAR * far(start, end), name
        assert kl == pytest.approx(alone.held_out_kl, rel=1e-4)
        assert (perplexity or 0) == pytest.approx(alone.held_out_perplexity or 0, rel=1e-4)
        assert steps == alone.steps


def cut_of(target):
    return Proxy(proxy_of(target), target.ref, (0,), 0.0, None, None, 0)


@pytest.mark.slow
def test_two_processes_make_the_proxy_of_one_with_whole_layers_and_with_divided_ones(folder):
    """Also where one process goes on from what two left, and two from what one left."""
    ended = torchrun.run(2, *driver(folder, "every-case"))
    assert (ended.status, ended.out) == (0, ""), ended.err
    for case in many.CASES:
        require_near(folder, case, f"{case}-whole", f"{case}-divided")
    require_near(folder, "causal", "went-on-whole", "went-on-divided")
    for mark in ("whole", "divided"):
        proxy = many.distilled(folder, "causal", unfinished=folder / f"left-{mark}")
        many.kept(folder / f"alone-went-on-{mark}", proxy, ALONE)
    require_near(folder, "causal", "alone-went-on-whole", "alone-went-on-divided")


@pytest.mark.slow
def test_three_processes_go_on_where_two_left_off(folder):
    """Three do not divide the widths, so their slices are unequal."""
    for mark in ("whole", "divided"):
        for earlier in (f"alone-{mark}", f"left-{mark}"):  # the test before went on with both
            shutil.rmtree(folder / earlier, ignore_errors=True)
    ended = torchrun.run(2, *driver(folder, "begin"))
    assert ended.status == 0, ended.err
    ended = torchrun.run(3, *driver(folder, "every-case"))
    assert ended.status == 0, ended.err
    for case in many.CASES:
        require_near(folder, case, f"{case}-whole", f"{case}-divided")
    require_near(folder, "causal", "went-on-whole", "went-on-divided")


@pytest.mark.slow
def test_a_process_with_another_text_is_told_in_the_only_error_line(folder):
    ended = torchrun.run(2, *driver(folder, "other-text"))
    (line,) = ended.errors
    assert line.startswith("error: process 1 of 2 has another target, text or recipe than process 0")
    assert ended.status == 1


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("passes", [1, 2, 5, 6])
def test_each_pass_counts_once_and_divided_layers_keep_processes_in_step(count, passes):
    shares = [list(Processes(count, rank).share(passes)) for rank in range(count)]
    assert sorted(number for share in shares for number, _ in share) == list(range(passes))
    assert {counted for share in shares for _, counted in share} == {1}
    in_step = [list(Processes(count, rank, divided=True).share(passes)) for rank in range(count)]
    assert [[pair for pair in share if pair[1]] for share in in_step] == shares
    assert {len(share) for share in in_step} == {-(-passes // count)}


def test_this_process_alone_is_the_first_and_has_everything():
    assert Processes.here(divide=True) == ALONE
    assert ALONE.first
    assert list(ALONE.share(3)) == [(0, 1), (1, 1), (2, 1)]
    ALONE.require_same("text", object())
