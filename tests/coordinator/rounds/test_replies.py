"""A reply that is not what was asked of that very client enters nothing."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save

from coordinator.rounds.aggregation import combine
from coordinator.rounds.cohort import Cohort
from coordinator.rounds.round_spec import RoundSpec, roster
from tests.coordinator.rounds.rounds import mallory_of
from transfer.model_ref import ModelRef
from transfer.privacy import Spend
from transfer.prompt import TENSOR_KEY, SoftPrompt
from transfer.protocol import round_wire, wire
from transfer.protocol.rounds import Decline, Refusal
from transfer.protocol.signing import REPLY_TYPE, REQUEST_TYPE, sign

PROXY = ModelRef("tiny", "0" * 64)


def resized(owner, request):
    prompt = SoftPrompt(torch.zeros(5, 32), request.proxy)
    return owner.sealed(replace(owner.release(request), prompt=prompt))


def huge(owner, request):
    prompt = SoftPrompt(torch.full((4, 32), 1e38), request.proxy)
    return owner.sealed(replace(owner.release(request), prompt=prompt))


def of_values(value):
    """A reply whose prompt file holds a number no `SoftPrompt` could."""

    def forge(owner, request):
        vectors = request.prompt.vectors.clone()
        vectors[0, 0] = value
        genuine, false = request.prompt.to_bytes(), save({TENSOR_KEY: vectors})
        release = replace(owner.release(request), prompt=request.prompt)
        payload = round_wire.reply_to_bytes(release).replace(genuine, false)
        return wire.envelope_to_bytes(sign(payload, REPLY_TYPE, owner.key))

    return forge


def of_another_round(owner, request):
    return owner.sealed(replace(owner.release(request), round="campaigns/attacked/rounds/2"))


def with_another_nonce(owner, request):
    return owner.sealed(replace(owner.release(request), nonce=b"x" * 16))


def under_another_name(owner, request):
    return owner.sealed(replace(owner.release(request), client="ada"))


def on_another_proxy(owner, request):
    return owner.sealed(replace(owner.release(request), prompt=SoftPrompt(request.prompt.vectors, PROXY)))


def with_less_noise(owner, request):
    return owner.sealed(replace(owner.release(request), spend=Spend(0.1, 0.5, 10)))


def for_another_unit(owner, request):
    release = owner.release(request)
    return owner.sealed(replace(release, spend=replace(release.spend, unit="user")))


def with_a_changed_bit(owner, request):
    data = bytearray(owner.sealed(owner.release(request)))
    data[len(data) // 2] ^= 1
    return bytes(data)


def as_a_request(owner, request):
    payload = round_wire.reply_to_bytes(owner.release(request))
    return wire.envelope_to_bytes(sign(payload, REQUEST_TYPE, owner.key))


def declining_another_round(owner, request):
    return owner.sealed(Decline("campaigns/x/rounds/1", owner.name, request.nonce, Refusal.POLICY))


FORGERIES = [
    resized,
    huge,
    of_values(float("nan")),
    of_values(float("inf")),
    of_another_round,
    with_another_nonce,
    under_another_name,
    on_another_proxy,
    with_less_noise,
    for_another_unit,
    with_a_changed_bit,
    as_a_request,
    declining_another_round,
    lambda owner, request: b"",
    lambda owner, request: b"\xff" * 100,
]


@pytest.fixture
def ask(world):
    """Asks one round and returns its cohort; a round of its own each time."""

    def asked(name):
        plan = world.launch(name=name)
        start = SoftPrompt(torch.ones(4, 32), world.store.proxy("tiny").model)
        asked = roster(world.store)
        world.store.open_round(name, 1, start.to_bytes(), asked.to_bytes())
        cohort = Cohort(world.store, world.identity, RoundSpec(plan, 1, start, asked))
        cohort.ask(world.fleet, lambda: False, lambda client: None)
        prompts = {client: release.prompt for client, release in cohort.releases.items()}
        return combine(prompts, start).prompt.vectors

    return asked


@pytest.mark.promise("cohort")
@pytest.mark.parametrize("number", range(len(FORGERIES)))
def test_a_forged_reply_is_recorded_and_leaves_the_aggregate_bit_identical(world, ask, number):
    clean = ask("clean")
    bob = world.enrol(mallory_of(world))
    bob.forge = FORGERIES[number]
    assert torch.equal(ask("attacked"), clean)
    outcomes = world.outcomes("attacked", 1)
    assert outcomes.pop("bob").startswith("invalid: ")
    assert set(outcomes.values()) == {"released"}


def test_a_genuine_fourth_reply_does_change_the_aggregate(world, ask):
    clean = ask("clean")
    world.enrol(mallory_of(world))
    assert not torch.equal(ask("joined"), clean)


def test_a_reply_signed_by_another_clients_key_is_invalid(world, mallory):
    ada = world.fleet.owners["ada"]

    def signed_by_ada(owner, request):
        return ada.sealed(owner.release(request))

    mallory.forge = signed_by_ada
    world.carry_out()
    assert "signed by key" in world.outcomes("first", 1)["bob"]


def test_a_reply_replayed_from_the_round_before_is_invalid(world, mallory):
    earlier = []

    def replayed(owner, request):
        earlier.append(owner.sealed(owner.release(request)))
        return earlier[0]

    mallory.forge = replayed
    world.carry_out()
    assert world.outcomes("first", 1)["bob"] == "released"
    assert world.outcomes("first", 2)["bob"].startswith("invalid: campaigns/first/rounds/2: reply of bob")


def test_a_reply_of_another_campaigns_same_round_is_invalid(world, mallory):
    earlier = []

    def replayed(owner, request):
        earlier.append(owner.sealed(owner.release(request)))
        return earlier[0]

    mallory.forge = replayed
    world.carry_out(rounds=1)
    world.carry_out(rounds=1, name="second")
    assert world.outcomes("second", 1)["bob"].startswith("invalid: ")
