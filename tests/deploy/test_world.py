import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from client.private.records import read
from deploy.world import Size, World, _settle, make
from transfer.files.public_text import read_texts
from transfer.models.loading import load
from transfer.post.evaluation import accuracy
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.tokens.readout import label_logits

TINY = Size(private=30, test=20, public=25, corpus=300, hidden=16, layers=1, steps=3)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make(tmp_path_factory.mktemp("worlds"), clients=2, size=TINY)


def contents(world):
    root = world.task.parent
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_equal_seeds_make_equal_worlds_and_other_seeds_others(world, tmp_path):
    again = contents(make(tmp_path, clients=2, size=TINY))
    other = contents(make(tmp_path, seed=1, clients=2, size=TINY))
    assert again == contents(world)
    same = {path.name for path, content in other.items() if again[path] == content}
    assert same <= {"task.toml", "config.json", "generation_config.json", "tokenizer_config.json"}


def test_no_record_is_in_two_files(world):
    files = [read_texts(path) for path in (*world.private, world.test, world.public)]
    assert [len(texts) for texts in files] == [30, 30, 20, 25]
    assert len(set().union(*files)) == 105


def test_private_files_are_what_a_client_reads_and_public_ones_hold_no_label(world):
    task = Task.from_toml(world.task)
    for path in (*world.private, world.test):
        assert set(read(path, task.label_names).labels) <= set(range(4))
    for path in (world.public, world.corpus):
        assert {tuple(json.loads(line)) for line in path.read_text().splitlines()} == {("text",)}


def test_label_words_are_single_tokens_and_texts_short(world):
    target, task = load(world.target), Task.from_toml(world.task)
    encoder = target.encoder(task)  # refuses a label word of several tokens
    assert [len(words) for words in encoder.words] == [2, 2, 2, 2]
    assert max(len(line.ids) for line in encoder.encode(read_texts(world.private[0]))) <= 32
    assert target.causal
    assert None not in (target.tokenizer.pad_token, target.tokenizer.eos_token, target.tokenizer.mask_token)


def test_a_second_call_makes_nothing(world):
    before = {path: path.stat().st_mtime_ns for path in world.task.parent.rglob("*")}
    assert make(world.task.parent.parent, clients=2, size=TINY) == world
    assert {path: path.stat().st_mtime_ns for path in world.task.parent.rglob("*")} == before


def test_what_makes_another_world_has_another_place(tmp_path):
    size = replace(TINY, steps=1)
    places = {
        make(tmp_path, seed=seed, clients=clients, size=size).task
        for seed, clients in ((0, 1), (0, 2), (1, 1))
    }
    assert len(places) == 3


def test_a_making_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="total_steps"):
        make(tmp_path / "worlds", size=replace(TINY, steps=0))
    assert list((tmp_path / "worlds").iterdir()) == []


def test_a_world_that_another_process_finished_first_is_kept(tmp_path):
    draft, place = tmp_path / "draft", tmp_path / "place"
    for directory in (draft, place):
        directory.mkdir()
        (directory / "made-by").write_text(directory.name)
    _settle(draft, place)
    assert (place / "made-by").read_text() == "place"


def test_making_draws_none_of_the_callers_random_numbers(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    make(tmp_path, size=replace(TINY, steps=1))
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.slow
def test_a_killed_making_is_not_used(tmp_path):
    script = (
        "import pathlib, sys\nfrom deploy.world import Size, make\n"
        "make(pathlib.Path(sys.argv[1]), size=Size(private=30, corpus=300, hidden=16, layers=1, steps=10**6))"
    )
    maker = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], env=os.environ | {"PYTHONPATH": "."}
    )
    try:
        while not list(tmp_path.glob("*/task.toml")):
            assert maker.poll() is None
    finally:
        maker.send_signal(signal.SIGKILL)
        maker.wait()
    (left,) = tmp_path.iterdir()
    world = make(tmp_path, size=TINY)
    assert world.task.parent != left
    assert load(world.target).causal


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_prompt_tells_the_target_what_it_is_asked_for(tmp_path):
    world = make(tmp_path)
    target, task = load(world.target), Task.from_toml(world.task)
    test = read(world.test, task.label_names)
    zero_shot = accuracy(target, task, test.texts, test.labels).micro
    prompted = accuracy(target, task, test.texts, test.labels, tuned(target, task, world)).micro
    assert 0.3 <= zero_shot <= 0.6
    assert prompted >= max(zero_shot + 0.3, 0.85)


def tuned(target, task, world: World) -> SoftPrompt:
    """A prompt tuned on the first client's records without privacy."""
    records = read(world.private[0], task.label_names)
    encoder = target.encoder(task)
    lines, labels = encoder.encode(records.texts), torch.tensor(records.labels)
    vectors = target.text_prompt(task.init_text, 8).vectors.clone().requires_grad_()
    optimizer = torch.optim.Adam([vectors], lr=0.03)
    for step in range(80):
        chosen = [(step * 128 + index) % len(lines) for index in range(128)]
        batch = target.collate([lines[index] for index in chosen])
        logits = label_logits(target.logits(batch, vectors.expand(len(batch), -1, -1)), encoder.words)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels[chosen]).backward()
        optimizer.step()
    return SoftPrompt(vectors.detach().clone(), target.ref)
