"""An interrupted distillation goes on from its checkpoint, or says why it cannot."""

import os
import resource
import signal
from dataclasses import replace

import pytest
import torch

from tests.transfer.distillation.lessons import SHORT, TEXTS, same, stirred
from transfer.distillation.checkpoint import FILE, Checkpoint, Checkpoints
from transfer.distillation.distil import distil, make
from transfer.errors import AlreadyExistsError, UsageError
from transfer.models.loading import load
from transfer.placement.settings import Placement

EVERYTHING = replace(SHORT, steps=11, accumulate=2, prompted_share=0.5, check_every=4)


class PowerCut(BaseException):
    """The process ends here."""


def interrupted_at(number):
    def on_progress(step, _kl):
        if step == number:
            raise PowerCut

    return on_progress


@pytest.mark.parametrize(
    ("kind", "step"), [("causal", 2), ("causal", 4), ("causal", 11), ("masked", 7), ("gpt2", 7)]
)
def test_an_interrupted_distillation_goes_on_to_the_very_same_proxy(kind, step, request, tmp_path):
    model = stirred(request.getfixturevalue(kind))
    whole = distil(model, (0,), TEXTS, EVERYTHING)
    assert whole.held_out_kl < distil(model, (0,), TEXTS, replace(EVERYTHING, steps=0)).held_out_kl
    with pytest.raises(PowerCut):
        distil(model, (0,), TEXTS, EVERYTHING, interrupted_at(step), tmp_path / "part")
    torch.rand(step)  # whatever else the process draws has no influence
    seen = []
    resumed = distil(model, (0,), TEXTS, EVERYTHING, lambda at, _: seen.append(at), tmp_path / "part")
    assert seen == list(range(step // 4 * 4 + 1 if step < 11 else 12, 12))
    assert same(resumed, whole)
    assert (resumed.steps, resumed.held_out_kl) == (whole.steps, whole.held_out_kl)


def test_a_distillation_that_was_interrupted_on_its_plateau_is_over(causal, tmp_path):
    hopeless = replace(SHORT, steps=100, learning_rate=1e-12, check_every=2, patience=2)
    with pytest.raises(PowerCut):
        distil(causal, (0,), TEXTS, hopeless, interrupted_at(4), tmp_path / "part")
    assert distil(causal, (0,), TEXTS, hopeless, interrupted_at(5), tmp_path / "part").steps == 4


def test_a_process_killed_while_it_writes_leaves_the_checkpoint_before(causal, tmp_path):
    place, target = tmp_path / "part", stirred(causal)

    def full_disk(step, _kl):
        if step == 5:  # the write at step 8 is cut short by the kernel, which ends the process
            half = (place / FILE).stat().st_size // 2
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (half, half))

    child = os.fork()
    if not child:
        distil(target, (0,), TEXTS, EVERYTHING, full_disk, place)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == -signal.SIGXFSZ
    assert [path.name for path in place.iterdir() if not path.name.startswith(".")] == [FILE]
    assert len(list(place.iterdir())) > 1
    seen = []
    resumed = distil(target, (0,), TEXTS, EVERYTHING, lambda at, _: seen.append(at), place)
    assert seen[0] == 5
    assert same(resumed, distil(target, (0,), TEXTS, EVERYTHING))
    assert [path.name for path in place.iterdir()] == [FILE]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"settings": replace(EVERYTHING, learning_rate=1e-3)}, "learning_rate"),
        ({"settings": replace(EVERYTHING, freeze=())}, "freeze"),
        ({"layers": (1,)}, "layers"),
        ({"texts": TEXTS[1:]}, "texts"),
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused_in_one_line(causal, tmp_path, change, key):
    given = {"layers": (0,), "texts": TEXTS, "settings": EVERYTHING}
    with pytest.raises(PowerCut):
        distil(causal, **given, on_progress=interrupted_at(4), unfinished=tmp_path / "part")
    with pytest.raises(
        UsageError, match=rf"is of recipe [0-9a-f]{{12}}, not of [0-9a-f]{{12}}: {key} differ"
    ) as caught:
        distil(causal, **given | change, unfinished=tmp_path / "part")
    assert str(tmp_path / "part" / FILE) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_the_same_target_in_other_numbers_is_refused(tiny_causal, tmp_path):
    given = {"layers": (0,), "texts": TEXTS, "settings": EVERYTHING}
    with pytest.raises(PowerCut):
        distil(load(tiny_causal), **given, on_progress=interrupted_at(4), unfinished=tmp_path / "part")
    reduced = load(tiny_causal, placement=Placement(dtype="bfloat16"))
    with pytest.raises(UsageError, match="numbers differ"):
        distil(reduced, **given, unfinished=tmp_path / "part")


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"", lambda data: data[9:]])
def test_a_damaged_checkpoint_is_named(causal, tmp_path, damage):
    with pytest.raises(PowerCut):
        distil(causal, (0,), TEXTS, EVERYTHING, interrupted_at(4), tmp_path)
    (tmp_path / FILE).write_bytes(damage((tmp_path / FILE).read_bytes()))
    with pytest.raises(UsageError, match=rf"{FILE}: cannot be read .*; remove it") as caught:
        distil(causal, (0,), TEXTS, EVERYTHING, unfinished=tmp_path)
    assert "\n" not in str(caught.value)


def test_an_unfinished_distillation_is_not_begun_anew_by_accident(causal, tmp_path):
    place = tmp_path / "proxy"

    def stop(step, _steps):
        if step == 5:
            raise PowerCut

    with pytest.raises(PowerCut):
        make(causal, 1, TEXTS, EVERYTHING, place, on_step=stop)
    assert [path.name for path in tmp_path.iterdir()] == [".proxy.unfinished"]
    with pytest.raises(AlreadyExistsError, match=r"\.proxy\.unfinished holds an unfinished distillation"):
        make(causal, 1, TEXTS, EVERYTHING, place)
    made = make(causal, 1, TEXTS, EVERYTHING, place, resume=True)
    assert same(made, distil(causal, (0,), TEXTS, EVERYTHING))
    assert [path.name for path in tmp_path.iterdir()] == ["proxy"]


def test_a_checkpoint_is_written_without_a_copy_of_it_in_memory(tmp_path):
    """Sixteen tensors of 8 MB each: the peak of memory grows by less than two of them."""
    tensors = {f"proxy/{number}": torch.full((2**21,), float(number)) for number in range(16)}
    store = Checkpoints(tmp_path / "part", {"seed": 0})
    store.save(Checkpoint(1, 0.5, 0, {"proxy/0": torch.zeros(1)}))  # loads what the first write loads
    child = os.fork()
    if not child:  # the peak of a child starts anew
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        store.save(Checkpoint(2, 0.25, 1, tensors))
        os._exit(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > 2 * 8 * 1024)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    read = store.read()
    assert (read.step, read.kl, read.stale) == (2, 0.25, 1)
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in tensors.items())
    assert (tmp_path / "part" / FILE).stat().st_mode & 0o777 == 0o600
