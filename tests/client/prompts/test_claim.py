"""What a statement claims is read strictly, or refused."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.prompts.claim import Claim
from tests.client.prompts.recipient import TARGET, VECTORS, assert_refused
from transfer.errors import VerificationError
from transfer.protocol.signing import Statement
from transfer.tasks import Task


@pytest.mark.parametrize(
    "forge",
    [
        lambda told: told.update(prompt="other"),
        lambda told: told.update(version=7),
    ],
)
def test_a_statement_about_something_else_is_refused(delivery, run, tmp_path: Path, forge) -> None:
    delivery.publish("sst2", TARGET, VECTORS, forge=forge)
    assert_refused(
        run("fetch", "sst2", "--out", tmp_path / "got"), "version 1 of prompt 'sst2' was asked for"
    )
    assert_refused(run("show", "sst2"), "was asked for")
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize(("causal", "kind"), [(True, "causal"), (False, "masked")])
def test_a_statement_from_before_tells_of_causal_and_masked_models_alone(
    say, tiny_task, causal, kind
) -> None:
    told = say("sst2", 1, TARGET, tiny_task)
    del told["lm_head"]
    assert Claim.of(Statement({}, {**told, "causal": causal})).lm_head == kind
    with pytest.raises(VerificationError, match="cannot be read"):
        Claim.of(Statement({}, told))


@pytest.mark.parametrize("kind", ["both", None, ["causal"]])
def test_a_statement_of_an_unknown_kind_of_model_is_refused(say, tiny_task, kind) -> None:
    told = {**say("sst2", 1, TARGET, tiny_task), "lm_head": kind}
    with pytest.raises(VerificationError, match="cannot be read"):
        Claim.of(Statement({}, told))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_whatever_was_signed_is_read_or_refused(say, tiny_task: Task, data: st.DataObject) -> None:
    told: Any = say("sst2", 1, TARGET, tiny_task)
    told["task"]["labels"] = list(told["task"]["labels"])
    place: Any = told
    while True:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(JSON)
    with suppress(VerificationError):
        claim = Claim.of(Statement({}, told))
        assert claim.privacy.epsilon >= 0
        assert claim.privacy.delta >= 0
