"""Replies of clients, verified: signed by whom they should be, an answer to what was asked, and within reach.

`admit` looks at one reply alone: does it answer exactly what was asked, can an honest client have come this far.
"""

import math
from collections.abc import Sequence

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from coordinator.home.identity import Identity
from coordinator.rounds.aggregation import update_norm
from coordinator.rounds.question import Question
from coordinator.store.records import RELEASED, Client, ReplyRecord
from coordinator.store.store import Store
from transfer.errors import VerificationError
from transfer.prompt import SoftPrompt
from transfer.protocol import round_wire, wire
from transfer.protocol.rounds import Decline, Release, RoundRequest
from transfer.protocol.signing import REPLY_TYPE
from transfer.subspace import Subspace

OUTSIDE = 1e-3
"""Part of an update outside the subspace it was asked in that float32 may leave, generously."""


def standing(
    store: Store, identity: Identity, question: Question, replies: Sequence[ReplyRecord]
) -> dict[str, Release]:
    """The releases among the replies that stand in the store, by client, verified as if they had come just now.

    Raises:
        VerificationError: one is not what it was when it came.
    """
    found = {}
    for record in replies:
        if record.outcome == RELEASED and record.envelope is not None:
            request = question.to(record.client, identity)
            reply = read(record.envelope, store.client(record.client), request)
            if not isinstance(reply, Release):
                raise VerificationError(f"{request.round}: the stored reply of {record.client} is no release")
            found[record.client] = reply
    return found


def read(envelope: bytes, client: Client, request: RoundRequest) -> Release | Decline:
    """A reply to `request`, signed by the key this very client enrolled with.

    Raises:
        VerificationError: another signer, not a reply, or not a reply to this request.
    """
    if client.signing_key is None:
        raise VerificationError(f"{client.name} has no enrolled signing key")
    key = Ed25519PublicKey.from_public_bytes(client.signing_key)
    reply = round_wire.reply_from_bytes(wire.envelope_from_bytes(envelope).verify(key, REPLY_TYPE))
    if isinstance(reply, Release):
        admit(reply, request)
    elif (reply.round, reply.client, reply.nonce) != (request.round, request.client, request.nonce):
        raise VerificationError(f"{request.round}: {request.client} declined another round")
    return reply


def admit(release: Release, request: RoundRequest) -> SoftPrompt:
    """The prompt of a release that answers exactly `request`.

    Raises:
        VerificationError: another round, client, nonce, proxy, shape or spend than asked, or an update no
            honest client could have made.
    """
    for field in ("round", "client", "nonce"):
        if getattr(release, field) != getattr(request, field):
            raise VerificationError(f"{request.round}: reply of {request.client} is for another {field}")
    if release.prompt.model.digest != request.proxy.digest:
        raise VerificationError(
            f"{request.round}: {request.client} tuned on proxy {release.prompt.model.digest[:16]}…, "
            f"asked for {request.proxy.digest[:16]}…"
        )
    if release.spend != request.tuning.spend:
        raise VerificationError(
            f"{request.round}: {request.client} spent {release.spend}, asked for {request.tuning.spend}"
        )
    shape, asked = list(release.prompt.vectors.shape), list(request.prompt.vectors.shape)
    if shape != asked:
        raise VerificationError(f"{request.round}: prompt of {request.client} has shape {shape}, not {asked}")
    if request.subspace is not None:
        _require_inside(request.subspace, release.prompt, request)
    norm, longest = update_norm(release.prompt, request.prompt), longest_update(request)
    if not norm <= longest:
        raise VerificationError(
            f"{request.round}: update of {request.client} has norm {norm:.3g}, "
            f"no honest one exceeds {longest:.3g}"
        )
    return release.prompt


def _require_inside(subspace: Subspace, prompt: SoftPrompt, request: RoundRequest) -> None:
    """An honest update has no part outside the subspace but what rounding to float32 leaves."""
    update = prompt.vectors - request.prompt.vectors
    inside = subspace.vectors(subspace.coordinates(update.unsqueeze(0))[0])
    outside = torch.linalg.vector_norm(update - inside)
    if not outside <= OUTSIDE * (1 + torch.linalg.vector_norm(update)):
        raise VerificationError(
            f"{request.round}: update of {request.client} leaves the subspace by {outside:.3g}"
        )


def longest_update(request: RoundRequest) -> float:
    """Norm that honest tuning stays far below: a few times what all steps in one direction come to.

    Adam moves each of D tuned numbers by at most (1 − β₁)/√(1 − β₂) ≈ 3.2 learning rates a step (Kingma and Ba
    2015, https://arxiv.org/abs/1412.6980, §2.1), whatever the clipping norm and the noise. SGD without noise clips
    nothing, so no norm is too long: ∞.
    """
    tuning, spend = request.tuning, request.tuning.spend
    numbers = request.subspace.dimensions if request.subspace else request.prompt.vectors.numel()
    if tuning.optimizer == "adam":
        return 10 * spend.steps * tuning.learning_rate * math.sqrt(numbers)
    if not spend.noise_multiplier:
        return math.inf
    # A step is lr/(q·N) times a noised sum, where N ≥ 1 is what the client declared, which is not known here. N
    # units, each clipped to C, come to lr·C/q a step, whatever N is. The noise of all T steps is one Gaussian of
    # deviation lr·√T·σ·C/(q·N) at most in each of D numbers, about √D times as long, and longest for N = 1. Ten
    # times both leaves room for a file that holds more than was declared; noise alone exceeds it once in e⁴⁰ rounds.
    noise = spend.noise_multiplier * math.sqrt(spend.steps * numbers)
    return 10 * tuning.learning_rate * tuning.clip_norm / spend.sample_rate * (spend.steps + noise)
