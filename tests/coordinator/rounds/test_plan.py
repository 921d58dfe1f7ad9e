import json
import math
import re
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.rounds import forecast as owners_plan_file
from coordinator.rounds import plan_file
from coordinator.rounds.plan import NO_LIBRARY, CampaignPlan, Publication, Start
from tests.coordinator.rounds.plans import PLAN, TASK, plan
from transfer.errors import ConfigError, VerificationError
from transfer.post.settings import TransferSettings
from transfer.privacy import Spend
from transfer.protocol.rounds import Tuning
from transfer.protocol.tuning_table import Optimizer
from transfer.tasks import Label, Task

UNCALIBRATED = PLAN.replace("epsilon = 8.0", "noise_multiplier = 1.0")


def test_all_rounds_together_spend_the_epsilon_that_was_asked_for(directory):
    read = plan(directory)
    assert 7.8 < read.epsilon <= 8.0
    assert read.tuning.spend.steps == 5


def test_a_plan_protects_records_unless_it_says_users_and_so_do_plans_stored_before(directory):
    read = plan(directory, UNCALIBRATED)
    assert read.tuning.spend.unit == "record"
    users = plan(directory, UNCALIBRATED.replace("[tuning]", '[tuning]\nunit = "user"'))
    assert users.tuning.spend == replace(read.tuning.spend, unit="user")
    assert CampaignPlan.from_json(users.to_json()) == users
    older = json.loads(read.to_json())
    del older["tuning"]["spend"]["unit"]
    assert CampaignPlan.from_json(json.dumps(older)) == read
    with pytest.raises(ConfigError, match=r"\[tuning\] unit: input should be 'record' or 'user', got 'house"):
        plan(directory, UNCALIBRATED.replace("[tuning]", '[tuning]\nunit = "household"'))


def test_clients_step_with_adam_unless_the_plan_says_sgd_and_in_plans_stored_before(directory):
    read = plan(directory, UNCALIBRATED)
    assert read.tuning.optimizer == "adam"
    sgd = plan(
        directory, UNCALIBRATED.replace("[tuning]", '[tuning]\noptimizer = "sgd"\nlearning_rate = 0.5')
    )
    assert sgd.tuning == replace(read.tuning, optimizer="sgd", learning_rate=0.5)
    assert CampaignPlan.from_json(sgd.to_json()) == sgd
    older = json.loads(read.to_json())
    del older["tuning"]["optimizer"]
    assert CampaignPlan.from_json(json.dumps(older)) == read


def test_a_data_owner_is_told_too_that_sgd_needs_a_learning_rate(directory):
    path = directory / "plan.toml"
    path.write_text(UNCALIBRATED.replace("[tuning]", '[tuning]\noptimizer = "sgd"'), encoding="utf-8")
    with pytest.raises(ConfigError, match=r'plan\.toml: \[tuning\] optimizer "sgd" needs a learning_rate'):
        owners_plan_file.read(path)


@pytest.mark.parametrize(
    ("task", "space", "says"),
    [
        ('kind = "text"', "labels", 'space "labels": free text has none'),
        (
            'label_reading = "head"\n[labels]\na = []\nb = []',
            "vocabulary",
            'space "vocabulary": a head knows labels only',
        ),
    ],
)
def test_a_transfer_compares_what_the_task_has(directory, task, space, says):
    lines = TASK.partition("[labels]")[0]
    if "head" in task:
        lines = lines.replace(" It was {answer}.", "")
    (directory / "tasks" / "sst2.toml").write_text(lines + task)
    with pytest.raises(ConfigError, match=says):
        plan(directory, PLAN + f'[transfer]\nspace = "{space}"\n')
    other = {"labels": "vocabulary", "vocabulary": "labels"}[space]
    assert plan(directory, PLAN + f'[transfer]\nspace = "{other}"\n').transfer.space == other


def test_an_infinite_epsilon_asks_for_no_noise(directory):
    read = plan(directory, PLAN.replace("8.0", "inf"))
    assert read.tuning.spend.noise_multiplier == 0
    assert math.isinf(read.epsilon)


def test_the_noise_multiplier_can_be_given_instead(directory):
    read = plan(directory, PLAN.replace("epsilon = 8.0", "noise_multiplier = 1.5"))
    assert read.tuning.spend.noise_multiplier == 1.5


def test_the_stored_json_needs_no_file_any_more(directory):
    read = plan(directory)
    (directory / "tasks" / "sst2.toml").unlink()
    assert CampaignPlan.from_json(read.to_json()) == read


def test_transfer_settings_left_out_keep_the_measured_defaults(directory):
    read = plan(directory, PLAN.replace("rounds = 2", "rounds = 2\nseed = 7") + "[transfer]\nsteps = 9\n")
    assert read.transfer == replace(TransferSettings(), steps=9, seed=7)


@pytest.mark.parametrize("text", ["{}", "[]", "not json", '{"name": 3}'])
def test_a_damaged_stored_plan_is_refused_in_one_line(text):
    with pytest.raises(VerificationError, match="stored plan") as caught:
        CampaignPlan.from_json(text)
    assert "\n" not in str(caught.value)


names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
plans = st.builds(
    CampaignPlan,
    name=names,
    task=st.builds(
        Task,
        name=names,
        template=st.just("{text} so {answer}"),
        labels=st.just((Label("a", ("x", "y")), Label("b", ("z",)))),
        init_text=st.text(min_size=1).filter(str.strip),
        max_tokens=st.integers(1, 512),
    ),
    proxy=names,
    public_text=st.text(),
    target=st.text(),
    rounds=st.integers(1, 50),
    deadline_s=st.floats(1e-3, 1e6),
    min_clients=st.integers(1, 50),
    strategy=st.sampled_from(["default", "mean", "median"]),
    start=st.builds(Start, st.integers(1, 100), st.sampled_from(["text", "vocabulary"])),
    tuning=st.builds(
        Tuning,
        st.builds(Spend, st.just(0.0) | st.floats(0.001, 100), st.floats(0.001, 1), st.integers(1, 1000)),
        st.floats(0.01, 10),
        st.floats(1e-5, 1),
        st.sampled_from(get_args(Optimizer)),
    ),
    delta=st.floats(1e-12, 0.1),
    transfer=st.builds(
        TransferSettings, alpha=st.floats(0, 1) | st.just("agreement"), steps=st.integers(1, 500)
    ),
    publish=st.builds(
        Publication, names, st.booleans(), st.lists(st.sampled_from(["int8", "nf4"]), unique=True).map(tuple)
    ),
    seed=st.integers(0, 2**31),
    library=names,
)


@given(plans)
@settings(max_examples=50, deadline=None)
def test_every_plan_survives_storage(value):
    assert CampaignPlan.from_json(value.to_json()) == value


def test_a_server_optimiser_is_named_with_its_parameters_and_survives_storage(directory):
    named = UNCALIBRATED.replace("rounds = 2", 'strategy = "fedadam"')
    read = plan(directory, named + "[server]\nadaptivity = 0.01\n")
    assert (read.strategy, read.server) == ("fedadam", {"adaptivity": 0.01})
    assert CampaignPlan.from_json(read.to_json()) == read


def test_a_plan_stored_before_there_were_server_optimisers_is_read(directory):
    read = plan(directory, UNCALIBRATED)
    stored = json.loads(read.to_json())
    del stored["server"]
    assert CampaignPlan.from_json(json.dumps(stored)) == read


def test_the_library_is_asked_only_where_the_plan_says_so(directory):
    assert plan(directory).library == NO_LIBRARY
    for word in ("auto", "sst2-older"):
        assert plan(directory, PLAN + f'[transfer]\nlibrary = "{word}"\n').library == word
    with pytest.raises(ConfigError, match="library prompt name 'Auto'"):
        plan(directory, PLAN + '[transfer]\nlibrary = "Auto"\n')


def test_a_plan_stored_before_there_was_a_library_is_read_as_asking_none(directory):
    stored = json.loads(plan(directory).to_json())
    del stored["library"]
    assert CampaignPlan.from_json(json.dumps(stored)) == plan(directory)


FREE_TEXT = 'name = "slots"\ntemplate = "{text} It was {answer}"\ninit_text = "A sentence"\nkind = "text"\n'


@pytest.mark.parametrize(
    ("tuning", "dimensions", "learning_rate"),
    [
        ("noise_multiplier = 1.0", 32, 0.05),
        ("noise_multiplier = 0.0", 0, 0.02),
        ("epsilon = inf", 0, 0.02),
        ("noise_multiplier = 1.0\ndimensions = 0", 0, 0.02),
        ("noise_multiplier = 1.0\ndimensions = 8\nlearning_rate = 0.3", 8, 0.3),
    ],
)
def test_under_noise_a_few_directions_are_tuned_in_unless_the_plan_says_otherwise(
    directory, tuning, dimensions, learning_rate
):
    read = plan(directory, PLAN.replace("epsilon = 8.0", tuning))
    assert (read.dimensions, read.tuning.learning_rate) == (dimensions, learning_rate)


HEAD = (
    'name = "t"\ntemplate = "{text}"\ninit_text = "Any"\nlabel_reading = "head"\n[labels]\na = []\nb = []\n'
)


@pytest.mark.parametrize(
    ("task", "space", "dimensions"), [(FREE_TEXT, "vocabulary", 0), (HEAD, "labels", 128)]
)
def test_free_text_is_tuned_whole_and_a_head_in_more_directions(directory, task, space, dimensions):
    (directory / "tasks" / "sst2.toml").write_text(task, encoding="utf-8")
    space = f'[transfer]\nspace = "{space}"\n'
    assert plan(directory, UNCALIBRATED + space).dimensions == dimensions
    asked = UNCALIBRATED.replace("[tuning]", "[tuning]\ndimensions = 256")
    assert plan(directory, asked + space).dimensions == 256


def test_a_start_of_public_text_needs_label_words(directory):
    (directory / "tasks" / "sst2.toml").write_text(HEAD, encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r'plan prompt\.init "public": a bare target answers by label words'
    ):
        plan(directory, UNCALIBRATED + '[prompt]\ninit = "public"\n')


@pytest.mark.parametrize(
    ("task", "keys", "message"),
    [
        (
            None,
            '[transfer]\nstart = "public"\nspace = "vocabulary"\n',
            'transfer.space "vocabulary": start = "public"',
        ),
        (
            HEAD,
            '[transfer]\nstart = "public"\n',
            'transfer.start "public": a bare target answers by label words',
        ),
        (
            FREE_TEXT,
            '[transfer]\nspace = "vocabulary"\n[publish]\nprompt = "sst2"\ntriggers = true\n',
            "publish.triggers true: a word turns a text to one label",
        ),
    ],
)
def test_what_compares_labels_is_not_asked_of_other_answers(directory, task, keys, message):
    if task:
        (directory / "tasks" / "sst2.toml").write_text(task, encoding="utf-8")
    plain = UNCALIBRATED.replace('[publish]\nprompt = "sst2"\n', "") if "[publish]" in keys else UNCALIBRATED
    with pytest.raises(ConfigError, match=re.escape(message)):
        plan(directory, plain + keys)


def test_data_owners_read_every_key_of_a_plan():
    assert set(owners_plan_file._PlanFile.model_fields) == set(plan_file._PlanFile.model_fields)
