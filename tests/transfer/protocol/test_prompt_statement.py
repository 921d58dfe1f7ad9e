"""Version 1 of what is signed about a prompt: golden statements, everything there and back, nonsense refused."""

import base64
import copy
import json
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transfer.errors import VerificationError
from transfer.protocol.prompt_lineage import (
    CohortV1,
    ComparedV1,
    ComparisonV1,
    CostV1,
    LibraryV1,
    LineageV1,
    PublicTextV1,
    RoundV1,
    SensitivityV1,
    StartV1,
    TransferV1,
    WordingV1,
)
from transfer.protocol.prompt_statement import (
    ClientV1,
    LabelV1,
    PerRoundV1,
    PrivacyV1,
    PromptStatement,
    TaskV1,
)
from transfer.protocol.signing import PROMPT_PREDICATE, STATEMENT_TYPE, Envelope, Statement, statement
from transfer.protocol.statement import ModelV1

GOLDEN = Path(__file__).parents[2] / "golden" / "v1"
TODAYS = ("words", "head", "library", "not-private", "rolled-back")
OLDER = ("first-release", "before-units")


def signed(name: str) -> tuple[Statement, bytes]:
    """A golden statement, verified, and the bytes that were signed."""
    content = json.loads((GOLDEN / name / "statement.dsse.json").read_bytes())
    payload, (signature,) = base64.b64decode(content["payload"]), content["signatures"]
    envelope = Envelope(STATEMENT_TYPE, payload, signature["keyid"], base64.b64decode(signature["sig"]))
    key = load_pem_public_key((GOLDEN / "publisher.pub").read_bytes())
    return Statement.verified(envelope, key, PROMPT_PREDICATE), payload


@pytest.mark.parametrize("name", TODAYS)
def test_what_was_signed_is_read_and_written_back_byte_for_byte(name: str) -> None:
    found, payload = signed(name)
    read = PromptStatement.from_predicate(found.predicate)
    assert statement(found.digests, PROMPT_PREDICATE, read.to_predicate()) == payload


def test_older_statements_say_the_same_as_those_that_say_it_all() -> None:
    for older, newer in (("first-release", "words"), ("before-units", "library")):
        assert PromptStatement.from_predicate(signed(older)[0].predicate) == PromptStatement.from_predicate(
            signed(newer)[0].predicate
        )


def test_a_key_of_a_newer_writer_is_not_read() -> None:
    predicate = copy.deepcopy(dict(signed("library")[0].predicate))
    plain = PromptStatement.from_predicate(predicate)
    for place in (predicate, predicate["privacy"], predicate["lineage"]["library"]["cohorts"][0]):
        place["newer"] = {"a": 1}
    assert PromptStatement.from_predicate(predicate) == plain


def leaves(place: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Path of every value that is no object."""
    for key, value in place.items() if isinstance(place, dict) else enumerate(place):
        if isinstance(value, dict | list) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


PREDICATE = dict(signed("library")[0].predicate)
LEAVES = list(leaves(PREDICATE))
OPTIONAL = {"unit", "kind", "label_reading", "answer_tokens"}
MEASURED = {"held_out_loss", "comparison"}
SETTINGS = {"alpha", "temperature", "learning_rate", "held_out", "seed"}


def changed(path: tuple[Any, ...], value: object = ...) -> dict[str, Any]:
    """The predicate with another value at `path`, or with none."""
    predicate = copy.deepcopy(PREDICATE)
    place: Any = predicate
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    if value is ...:
        del place[path[-1]]
    return predicate


def refusal(predicate: dict[str, Any]) -> str:
    """The message of what is refused: one line of a length to be read."""
    with pytest.raises(VerificationError) as caught:
        PromptStatement.from_predicate(predicate)
    message = str(caught.value)
    assert message.startswith("signed statement cannot be read: ")
    assert len(message.splitlines()) == 1
    assert len(message) < 300
    return message


def refused(path: tuple[Any, ...], value: object = ...) -> None:
    """One line that names the key."""
    assert ".".join(map(str, path)) in refusal(changed(path, value))


def test_a_key_that_is_missing_is_named() -> None:
    for path in LEAVES:
        if path[-1] not in OPTIONAL and isinstance(path[-1], str) and "held_out_loss" not in path:
            refused(path)


def test_a_value_of_a_wrong_type_is_refused_by_the_name_of_its_key() -> None:
    for path in LEAVES:
        for value in ({}, True, None) if path[-1] == "dropped" else ([], {}, True, None):
            refused(path, value)


def value_at(path: tuple[Any, ...]) -> Any:
    place: Any = PREDICATE
    for key in path:
        place = place[key]
    return place


def test_a_number_that_cannot_be_is_refused_by_the_name_of_its_key() -> None:
    for path in (path for path in LEAVES if isinstance(value_at(path), int | float)):
        impossible: list[Any] = ["much", 10**400]
        if MEASURED.isdisjoint(path):  # of a measurement nothing is promised
            impossible += [math.nan, -math.inf]
            impossible += [] if path[-1] in SETTINGS else [-1, -0.5]
        for value in impossible:
            refused(path, value)


@pytest.mark.parametrize("delta", [0, 1, 1.5])
def test_a_delta_is_between_0_and_1(delta: float) -> None:
    refused(("privacy", "delta"), delta)


@pytest.mark.parametrize("kind", ["both", None, ["causal"]])
def test_an_unknown_kind_of_model_is_refused(kind: object) -> None:
    refused(("lm_head",), kind)


def test_a_task_that_cannot_be_is_refused_in_its_own_words() -> None:
    predicate = changed(("task", "template"), "no blank")
    with pytest.raises(VerificationError, match=r"cannot be read: task 'reviews': template 'no blank' needs"):
        PromptStatement.from_predicate(predicate)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@settings(deadline=None)
@given(st.sampled_from(LEAVES), SCALARS | st.lists(SCALARS, max_size=2))
def test_whatever_was_signed_is_read_or_refused_in_one_line(path: tuple[Any, ...], value: object) -> None:
    with suppress(VerificationError):
        assert PromptStatement.from_predicate(changed(path, value)).privacy.guarantee.epsilon >= 0
        return
    refusal(changed(path, value))


TEXT, COUNT, POSITIVE = st.text(max_size=8), st.integers(0, 2**63 - 1), st.integers(1, 2**63 - 1)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
MEASURE = st.floats(allow_nan=False)
EPSILON = st.floats(0, math.inf)
DELTA = st.floats(0, 1, exclude_min=True, exclude_max=True)
UNIT = st.sampled_from(["record", "user"])
DIGEST = st.text("0123456789abcdef", min_size=64, max_size=64)
MODEL = st.builds(ModelV1, name=TEXT, digest=DIGEST)


def some(strategy: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, min_size=least, max_size=2).map(tuple)


LABELS = (LabelV1(name="good", words=("good", "übel")), LabelV1(name="bad", words=("bad",)))
TASK = st.builds(
    TaskV1,
    name=st.just("reviews"),
    template=st.just("{text} It was {answer}"),
    labels=st.just(LABELS),
    init_text=st.text(min_size=1).filter(str.strip),
    max_tokens=st.integers(1, 1_000_000),
    label_reading=st.sampled_from(["single", "first", "whole"]),
    answer_tokens=st.integers(1, 1_000_000),
)
COMPARED = st.builds(ComparedV1, prompt=TEXT, sha256=DIGEST, campaign=TEXT, epsilon=EPSILON, delta=DELTA)
COST = st.builds(CostV1, epsilon=EPSILON, delta=DELTA, unit=UNIT)
LIBRARY = st.builds(
    LibraryV1,
    mode=TEXT,
    used=st.none() | COMPARED,
    compared=some(COMPARED),
    comparison=st.none() | st.builds(ComparisonV1, difference=MEASURE, error=MEASURE),
    cohorts=some(st.builds(CohortV1, campaign=TEXT, costs=st.dictionaries(TEXT, COST, max_size=2))),
)
ROUND = st.builds(
    RoundV1, name=TEXT, start=DIGEST, prompt=DIGEST, strategy=TEXT, counted=some(TEXT), dropped=some(TEXT)
)
SHARE = st.floats(0, 1)
SENSITIVITY = st.builds(SensitivityV1, agreement=SHARE, least=SHARE, index=MEASURE)
WORDING = st.builds(
    WordingV1,
    **dict.fromkeys(("formats", "texts"), POSITIVE),
    **dict.fromkeys(("prompted", "bare"), SENSITIVITY),
    **dict.fromkeys(("drift", "random_drift"), MEASURE),
)
LINEAGE = st.builds(
    LineageV1,
    start=st.builds(StartV1, length=COUNT, init=TEXT),
    rounds=some(ROUND, least=1),
    public_text=st.builds(PublicTextV1, sha256=DIGEST, texts=COUNT),
    transfer=st.builds(
        TransferV1,
        **dict.fromkeys(("alpha", "temperature", "learning_rate", "held_out"), NUMBER),
        **dict.fromkeys(("steps", "batch_size", "check_every", "best_step"), COUNT),
        **dict.fromkeys(("space", "start"), TEXT),
        seed=st.integers(-(2**63), 2**64 - 1),
        formats=POSITIVE,
    ),
    held_out_loss=st.dictionaries(TEXT, MEASURE, max_size=3),
    library=st.none() | LIBRARY,
    republishes=st.none() | POSITIVE,
    wording=st.none() | WORDING,
)
PRIVACY = st.builds(
    PrivacyV1,
    unit=UNIT,
    **dict.fromkeys(("adjacency", "accountant", "sampling", "noise"), TEXT),
    epsilon=EPSILON,
    delta=DELTA,
    per_round=st.builds(
        PerRoundV1,
        noise_multiplier=st.floats(0, 1e6),
        sample_rate=st.floats(0, 1, exclude_min=True),
        steps=POSITIVE,
        unit=UNIT,
        clip_norm=st.floats(0, 1e6, exclude_min=True),
    ),
    clients=some(
        st.builds(
            ClientV1,
            client=TEXT,
            rounds=COUNT,
            **dict.fromkeys(("epsilon", "lifetime_epsilon"), EPSILON),
            **dict.fromkeys(("delta", "lifetime_delta"), DELTA),
        )
    ),
    not_private=some(TEXT),
)
STATEMENT = st.builds(
    PromptStatement,
    prompt=TEXT,
    version=POSITIVE,
    task=TASK,
    target=MODEL,
    proxy=MODEL,
    lm_head=st.sampled_from(["causal", "masked", "none"]),
    campaign=TEXT,
    rounds=POSITIVE,
    lineage=LINEAGE,
    privacy=PRIVACY,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STATEMENT)
def test_every_statement_comes_back_from_its_json_as_it_was(stated: PromptStatement) -> None:
    text = json.dumps(stated.to_predicate())
    assert PromptStatement.from_predicate(json.loads(text)) == stated
