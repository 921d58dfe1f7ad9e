"""Verification of clients' replies: the signer, the match with the request, and the length of the update.

`admit` checks one release alone: whether it answers the request exactly, and whether honest tuning can reach it.
"""

from collections.abc import Sequence

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from coordinator.home.identity import Identity
from coordinator.rounds.aggregation import update_norm
from coordinator.rounds.norm_bound import longest_update
from coordinator.rounds.round_spec import RoundSpec
from coordinator.store.records import RELEASED, Client, ReplyRecord
from coordinator.store.store import Store
from transfer.errors import VerificationError
from transfer.prompt import SoftPrompt
from transfer.protocol import round_wire, wire
from transfer.protocol.rounds import Decline, Release, RoundRequest
from transfer.protocol.signing import REPLY_TYPE
from transfer.subspace import Subspace

OUTSIDE = 1e-3
"""Largest norm that rounding to float32 may leave outside the subspace, relative to 1 + the update's norm."""


def standing(
    store: Store, identity: Identity, spec: RoundSpec, replies: Sequence[ReplyRecord]
) -> dict[str, Release]:
    """Return the releases among the stored replies, by client, each verified again.

    Raises:
        VerificationError: a stored release no longer verifies.
    """
    releases = {}
    for record in replies:
        if record.outcome == RELEASED and record.envelope is not None:
            request = spec.to(record.client, identity)
            reply = read(record.envelope, store.client(record.client), request)
            if not isinstance(reply, Release):
                raise VerificationError(f"{request.round}: the stored reply of {record.client} is no release")
            releases[record.client] = reply
    return releases


def read(envelope: bytes, client: Client, request: RoundRequest) -> Release | Decline:
    """Return the reply to `request` from an envelope signed by the client's enrolled key.

    Guarantee:
        Only the holder of `client`'s enrolled key can produce a reply that this function returns. A release
        answers exactly `request` (see `admit`); a decline names the request's round, client and nonce.

    Edge cases:
        A client without a signing key: refused. A valid reply to another round: refused. A decline carries no
        prompt, so nothing else is checked.

    Raises:
        VerificationError: another key signed it, it is not a reply, or it does not answer this request.
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
    """Return the prompt of a release that answers exactly `request`.

    Guarantee:
        Round, client, nonce, proxy, spend and shape equal those of the request. The update lies in the request's
        subspace, up to float32 rounding, and its norm is at most `longest_update`. The spend is the client's own
        statement: the coordinator cannot verify the noise inside a release.

    Edge cases:
        No subspace: every direction is allowed. SGD without noise: no norm is too long. NaN and ∞: `SoftPrompt`
        refuses them before.

    Raises:
        VerificationError: a field differs from the request, or honest tuning cannot reach the update.
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
    shape, expected = list(release.prompt.vectors.shape), list(request.prompt.vectors.shape)
    if shape != expected:
        raise VerificationError(
            f"{request.round}: prompt of {request.client} has shape {shape}, not {expected}"
        )
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
    """Refuse an update with a part outside the subspace that float32 rounding does not explain."""
    update = prompt.vectors - request.prompt.vectors
    inside = subspace.vectors(subspace.coordinates(update.unsqueeze(0))[0])
    outside = torch.linalg.vector_norm(update - inside)
    if not outside <= OUTSIDE * (1 + torch.linalg.vector_norm(update)):
        raise VerificationError(
            f"{request.round}: update of {request.client} leaves the subspace by {outside:.3g}"
        )
