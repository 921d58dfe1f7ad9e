"""A plan as a person writes it, in TOML."""

import dataclasses
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.rounds.plan import NO_LIBRARY, Publication, Start
from coordinator.rounds.server_optimizers import FedAdam, FedAvgM
from tests.coordinator.rounds.plans import PLAN, TASK, plan
from transfer.errors import ConfigError, TaskError, UsageError
from transfer.post.settings import TransferSettings

EXAMPLE = Path(__file__).parents[3] / "deploy" / "plan.toml"


def test_a_plan_holds_its_task_and_absolute_paths(directory):
    read = plan(directory)
    assert read.task.label_names == ("negative", "positive")
    assert read.public_text == str(directory / "public.jsonl")
    assert read.rounds == 2
    assert read.start == Start(10)


def test_the_shipped_example_is_a_plan_with_the_documented_defaults(directory):
    (directory / "task.toml").write_text(TASK, encoding="utf-8")
    text = EXAMPLE.read_text(encoding="utf-8")
    given = plan(directory, text)
    short = """
        name = "sst2-first"
        task = "task.toml"
        proxy = "minilm-proxy"
        public_text = "public.jsonl"
        tuning = {epsilon = 8.0}
        publish = {prompt = "sst2"}
    """
    assert given == plan(directory, short)


def test_the_examples_commented_keys_are_the_defaults_too():
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    start, end = lines.index("[transfer]"), lines.index("[publish]")
    transfer, publish = (
        tomllib.loads("\n".join(line.removeprefix("# ") for line in part if " = " in line and "# " in line))
        for part in (lines[start:end], lines[end:])
    )
    assert transfer.pop("library") == NO_LIBRARY
    publish["twins"] = tuple(publish["twins"])
    for shown, defaults, count in ((transfer, TransferSettings(), 13), (publish, Publication(""), 3)):
        assert shown == {key: getattr(defaults, key) for key in shown}
        assert len(shown) == count


def test_formats_are_counted_apart_for_the_transfer_and_for_what_is_published(directory):
    read = plan(directory, PLAN.replace("[publish]", "[transfer]\nformats = 4\n[publish]\nformats = 0"))
    assert (read.transfer.formats, read.publish.formats) == (4, 0)
    assert (plan(directory).transfer.formats, plan(directory).publish.formats) == (1, 12)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "first"', 'name = "First try"', "campaign name 'First try'"),
        ("rounds = 2", "rounds = 0", "rounds: .* got 0"),
        ("rounds = 2", "round = 2", "unknown key 'round'; did you mean 'rounds'"),
        ("epsilon = 8.0", "", "needs epsilon"),
        ("epsilon = 8.0", "epsilon = 8.0\nnoise_multiplier = 1.0", "not both"),
        ("epsilon = 8.0", "epsilon = -1.0", r"\[tuning\] epsilon"),
        ("epsilon = 8.0", "epsilon = nan", r"\[tuning\] epsilon"),
        ("steps = 5", "steps = 0", r"\[tuning\] steps"),
        (
            "steps = 5",
            'optimizer = "lion"',
            r"\[tuning\] optimizer: input should be 'adam' or 'sgd', got 'lion'",
        ),
        ("steps = 5", 'optimizer = "sgd"', r'\[tuning\] optimizer "sgd" needs a learning_rate'),
        ("steps = 5", "stepz = 5", "unknown key 'stepz' in .tuning.; did you mean 'steps'"),
        ("[publish]", "[transfer]\nalpha = 2.0\n[publish]", "alpha 2.0 must be in"),
        ("[publish]", "[transfer]\nalpha = 'agree'\n[publish]", "alpha 'agree' must be .*, or \"agreement\""),
        ("[publish]", "[prompt]\ninit = 'zeros'\n[publish]", r"\[prompt\] init"),
        ("[publish]", "[transfer]\nrestarts = -1\n[publish]", "restarts -1 must be ≥ 0"),
        ("[publish]", "[transfer]\nimitate = 'answers'\n[publish]", r"\[transfer\] imitate"),
        ("rounds = 2", 'strategy = "krum"', "strategy 'krum' is none of default, mean, .*, fedavgm, fedadam"),
        (
            "[publish]",
            "[server]\nmomentum = 0.5\n[publish]",
            "'default' has no parameter 'momentum'; it has none",
        ),
        (
            "rounds = 2",
            'strategy = "fedavgm"\nserver = {adaptivity = 1e-3}',
            "'fedavgm' has no parameter 'adaptivity'; it has learning_rate, momentum",
        ),
        ("rounds = 2", 'strategy = "fedadam"\nserver = {adaptivity = 0}', "adaptivity 0.0 must be"),
        ("rounds = 2", 'strategy = "fedadam"\nserver = {momentum = 1}', "momentum 1.0 must be in"),
        ("rounds = 2", 'strategy = "fedadam"\nserver = {momentum = "much"}', r"\[server\] momentum"),
        ("rounds = 2", "deadline_s = inf", "deadline_s"),
        ('prompt = "sst2"', "", r"\[publish\] prompt: missing"),
        (
            'prompt = "sst2"',
            'prompt = "sst2"\ntwins = ["int4"]',
            "\\[publish.twins\\] 0: input should be 'int8' or 'nf4'",
        ),
        ('prompt = "sst2"', 'prompt = "sst2"\nformats = 1', "publish.formats 1 must be ≥ 2 .* or 0"),
        ('prompt = "sst2"', 'prompt = "sst2"\nformats = -1', "publish.formats -1 must be ≥ 2"),
        ("[publish]", "[transfer]\nformats = 0\n[publish]", r"\[transfer\] formats"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_key(directory, old, new, words):
    with pytest.raises(ConfigError, match=words) as caught:
        plan(directory, PLAN.replace(old, new))
    assert "plan.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_task_file_is_named(directory):
    with pytest.raises(TaskError, match=r"sst3\.toml"):
        plan(directory, PLAN.replace("sst2.toml", "sst3.toml"))


def test_the_examples_server_parameters_are_the_defaults():
    text = EXAMPLE.read_text(encoding="utf-8").partition("\n[server]\n")[2].partition("[prompt]")[0]
    shown = tomllib.loads(text.replace("# ", ""))
    adam = FedAdam()
    assert shown == dataclasses.asdict(adam) | {"learning_rate": FedAvgM().learning_rate}
    assert f"(1.0 and {adam.learning_rate})" in EXAMPLE.read_text(encoding="utf-8")


def test_a_plan_without_rounds_cannot_be_made(directory):
    with pytest.raises(UsageError, match="rounds 0"):
        replace(plan(directory), rounds=0)
