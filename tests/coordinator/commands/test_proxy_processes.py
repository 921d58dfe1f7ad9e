"""`torchrun … promptferry-coordinator proxy distil`: several processes, one proxy, one voice, one end."""

import json
import os
import signal
import time

import psutil
import pytest

from tests.transfer.distillation import torchrun
from transfer.distillation.checkpoint import FILE

WORDS = ("promptferry-coordinator", "--format", "json", "--dir")


def distil(command, text, name, *more):
    return (
        *WORDS,
        command.directory,
        "proxy",
        "distil",
        "--layers",
        "1",
        "--text",
        text,
        "--name",
        name,
        *more,
    )


def child_of(run, rank, within_s=60):
    """The process of that rank, once torchrun has started it."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        for child in psutil.Process(run.pid).children():
            if child.environ().get("RANK") == str(rank):
                return child
        time.sleep(0.05)
    raise AssertionError(f"no process {rank}")


def wait_for(path, run, within_s=200):
    end = time.monotonic() + within_s
    while not path.exists():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_two_processes_offer_one_proxy_and_speak_with_one_voice(command, public_text):
    for name, more in (("whole", ()), ("divided", ("--shard",))):
        ended = torchrun.run(2, *distil(command, public_text, name, "--steps", "3", *more))
        assert ended.status == 0, ended.err
        told = json.loads(ended.out)  # one document
        assert (told["name"], told["steps"]) == (name, 3)
        assert ended.err.count("step 3 of 3: held-out KL") == 1
    alone = command.json(
        "proxy", "distil", "--layers", "1", "--text", public_text, "--name", "alone", "--steps", "3"
    )
    listed = {item["name"]: item for item in command.json("proxy", "list")}
    for name in ("whole", "divided"):
        assert listed[name]["held_out_kl"] == pytest.approx(alone["held_out_kl"], rel=1e-4)
        assert listed[name]["steps"] == 3


@pytest.mark.slow
def test_what_is_wrong_for_all_processes_is_told_once(command, public_text):
    ended = torchrun.run(2, *distil(command, public_text, "wrong", "--layers", "3"))
    assert ended.status == 1
    assert ended.errors == ["error: a proxy of 3 layers cannot be cut from a target of 2; keep 1 to 2"]
    assert json.loads(ended.out)["error"] == "model"


@pytest.mark.slow
@pytest.mark.parametrize(("killed", "count", "more"), [(1, 2, ("--shard",)), (0, 1, ())])
def test_a_killed_process_ends_the_others_and_any_number_goes_on(command, public_text, killed, count, more):
    words = distil(command, public_text, "cut-short", "--steps", "400")
    run = torchrun.started(2, *words, *more)
    other, victim = child_of(run, 1 - killed), child_of(run, killed)
    wait_for(command.directory / "proxies" / ".cut-short.unfinished" / FILE, run)
    os.kill(victim.pid, signal.SIGKILL)
    start = time.monotonic()
    ended = torchrun.ended(run)
    assert time.monotonic() - start < 20
    assert (ended.status, ended.out) == (1, json.dumps(json.loads(ended.out), ensure_ascii=False) + "\n")
    (line,) = ended.errors
    assert f"process {1 - killed}" in line
    assert "--resume" in line
    assert not other.is_running()
    assert torchrun.run(count, *words).errors[0].endswith("--resume it, or remove it")
    ended = torchrun.run(count, *words, "--resume")
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["steps"] == 400
    assert "step 200 of 400" not in ended.err


def test_to_divide_layers_takes_several_processes(command, public_text):
    words = ("proxy", "distil", "--layers", "1", "--text", "nowhere.txt", "--name", "one", "--shard")
    assert command(*words) == 2
    assert "torchrun --standalone --nproc-per-node N --no-python" in command.err
    assert "nowhere" not in command.err
