"""The one-run audit: the daemon's own code answers rounds over a data set of canaries, and an attacker reads them.

A coin decides for each of 1 000 records whether it is in the data set (Steinke, Nasr & Jagielski 2023,
https://arxiv.org/abs/2305.08846). The attacker guesses from the released prompts which records are in. The audit
makes a client with settings, keys and ledger in a scratch directory, signs requests with a key of its own, and sets
the client up again for every round. From the signed request to the signed reply everything is real: policy, proxy,
records, reservation, sampling, gradients, clipping, noise, Adam and ledger.

Each round is one step from a head of zeros. Adam's first step is proportional to the noised gradient
(`client.audit.canaries`). The sum over T rounds is therefore all that the releases reveal about a canary. If the
mechanism is right, it is N(0, T·σ²) without the canary and N(T, T·σ²) with it, as the accountant assumes.
"""

import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.audit.bounds import (
    Flags,
    Scores,
    gaussian_epsilon,
    gaussian_mu,
    gaussian_mu_bound,
    one_run_epsilon,
)
from client.audit.canaries import TASK, CanaryProxy, write_records
from client.audit.finding import Finding
from client.home import custody
from client.home import directory as client_directory
from client.home.settings import ClientConfig
from client.ledger.ledger import Ledger
from client.private.noise import NoiseSource
from client.rounds.participant import Participant
from client.rounds.proxies import Proxies
from client.rounds.release import OwnerIdentity
from transfer.errors import PromptferryError, UsageError
from transfer.privacy import Spend, epsilon
from transfer.progress import OnStep
from transfer.protocol.roster import KEY_BYTES, Roster
from transfer.protocol.round_wire import reply_from_bytes, request_to_bytes
from transfer.protocol.rounds import (
    NONCE_BYTES,
    Decline,
    Refusal,
    Release,
    Reply,
    RoundRequest,
    Tuning,
    round_name,
)
from transfer.protocol.signing import REPLY_TYPE, REQUEST_TYPE, sign
from transfer.protocol.wire import envelope_from_bytes, envelope_to_bytes

NOISE, ROUNDS, CANARIES, DELTA = 4.472, 20, 1_000, 1e-5
CONFIDENCE, GAUSSIAN_CONFIDENCE = 0.95, 1 - 1e-6
"""0.95 is usual for one-run audits, whose bound is far below the truth anyway."""
CANARY_RANGE = (50, 5_000)
LEARNING_RATE = 1.0
_NAME = "auditee"
_BINS = 40


def require(canaries: int) -> None:
    """Refuse too few canaries to prove anything, and more than δ allows to declare.

    Raises:
        UsageError: names the range.
    """
    low, high = CANARY_RANGE
    if not low <= canaries <= high:
        raise UsageError(f"{canaries} canaries: the audit takes {low} to {high}")


def audit(
    noise: float = NOISE,
    *,
    canaries: int = CANARIES,
    rounds: int = ROUNDS,
    on_step: OnStep = lambda _done, _total: None,
) -> Finding:
    """Let the daemon answer `rounds` rounds of one step at q = 1, and request one round beyond the budget.

    Raises:
        UsageError: no noise, or too few or too many canaries.
        PromptferryError: the daemon declines a round that it must answer.
    """
    require(canaries)
    if not noise:
        raise UsageError("noise multiplier 0 claims no privacy: there is nothing to audit")
    started, spend = time.monotonic(), Spend(noise, 1.0, 1)
    included, heard = NoiseSource().bernoulli(canaries, 0.5), np.zeros(canaries)
    accounted = epsilon([spend] * rounds, DELTA)
    with _auditee(included, spend, rounds, accounted) as auditee:
        for index in range(1, rounds + 1):
            release = auditee.released(index)
            heard += auditee.proxy.heard(release.prompt, auditee.tuning.clip_norm, LEARNING_RATE)
            on_step(index, rounds)
        refused = auditee.refuses(rounds + 1)
    return _finding(heard / rounds, included, release, rounds, accounted, refused, started)


def _finding(
    scores: Scores,
    included: Flags,
    last: Release,
    rounds: int,
    accounted: float,
    refused: bool,
    started: float,
) -> Finding:
    """Return what the scores prove about the guarantee in the last signed reply."""
    claimed, spend = last.guarantee.epsilon, last.spend
    guessed = one_run_epsilon(scores, included, DELTA, CONFIDENCE)
    mu = gaussian_mu(scores, included)
    bound = gaussian_epsilon(gaussian_mu_bound(scores, included, GAUSSIAN_CONFIDENCE), DELTA)
    edges = np.linspace(scores.min(), scores.max() + 1e-12, _BINS + 1)
    settings = {
        "canaries": len(scores),
        "noise_multiplier": spend.noise_multiplier,
        "rounds": rounds,
        "confidence": CONFIDENCE,
        "gaussian_confidence": GAUSSIAN_CONFIDENCE,
    }
    sound = refused and claimed >= accounted
    return Finding(
        audit="one-run",
        claimed=claimed,
        delta=DELTA,
        bound=max(guessed, bound),
        sound=sound,
        verdict=_verdict(claimed, max(guessed, bound), accounted, refused),
        measured={
            "one_run_bound": guessed,
            "gaussian_bound": bound,
            "gaussian_estimate": gaussian_epsilon(mu, DELTA),
            "accounted": accounted,
        },
        settings=settings,
        curves={
            "edges": edges.tolist(),
            "included": np.histogram(scores[included], edges)[0].tolist(),
            "excluded": np.histogram(scores[~included], edges)[0].tolist(),
        },
        seconds=time.monotonic() - started,
    )


def _verdict(claimed: float, bound: float, accounted: float, refused: bool) -> str:
    if claimed < accounted:
        return (
            f"the ledger loses spends: the replies claim ε {claimed:.3g} for rounds that cost {accounted:.3g}"
        )
    if not refused:
        return "the ledger does not enforce the budget: a round beyond it was answered"
    if bound > claimed:
        return (
            f"the released prompts reveal too much about a record: ε is at least {bound:.3g} where "
            f"{claimed:.3g} is claimed; answer no rounds with this installation"
        )
    return (
        f"the daemon's own releases reveal no more about a record than its replies claim: measured ε ≥ "
        f"{bound:.3g}, claimed {claimed:.3g}; a round beyond the budget was refused"
    )


@contextmanager
def _auditee(included: Flags, spend: Spend, rounds: int, budget: float) -> "Iterator[_Auditee]":
    """Make a client in a scratch directory whose budget just covers `rounds`; remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix="promptferry-audit-") as scratch:
        here = Path(scratch)
        data = here / "canaries.jsonl"
        write_records(data, included)
        settings = client_directory.make(
            here / "client",
            {
                ("client", "name"): _NAME,
                ("data", "path"): str(data),
                ("data", "declared_records"): len(included),
                ("policy", "max_epsilon"): budget,
                ("policy", "max_delta"): DELTA,
                ("policy", "tasks"): [TASK.name],
                ("policy", "proxies"): ["*"],
                ("policy", "min_noise_multiplier"): spend.noise_multiplier,
            },
        )
        settings.proxies_directory.mkdir(mode=0o700)
        proxy = CanaryProxy.make(settings.proxies_directory, len(included))
        tuning = Tuning(spend, proxy.clip_norm(spend.noise_multiplier), LEARNING_RATE)
        proxies = Proxies(settings.proxies_directory, placement=settings.placement)
        yield _Auditee(settings, proxy, tuning, rounds, proxies)


@dataclass(frozen=True, slots=True)
class _Auditee:
    """A client under audit, and the coordinator that sends it requests."""

    settings: ClientConfig
    proxy: CanaryProxy
    tuning: Tuning
    rounds: int
    proxies: Proxies

    def released(self, index: int) -> Release:
        """Return the release of round `index` ≥ 1."""
        reply = self._answered(index)
        if isinstance(reply, Decline):
            raise PromptferryError(
                f"the daemon under audit declined {reply.round}: {reply.refusal.name.lower()}"
            )
        return reply

    def refuses(self, index: int) -> bool:
        """Tell whether round `index` is declined because of the budget."""
        reply = self._answered(index)
        return isinstance(reply, Decline) and reply.refusal is Refusal.BUDGET

    def _answered(self, index: int) -> Reply:
        """Return the reply of a participant that was just set up."""
        publisher, own = Ed25519PrivateKey.generate(), custody.load(self.settings)
        cohort = self.settings.policy.min_cohort
        others = [secrets.token_bytes(KEY_BYTES) for _ in range(cohort - 1)]
        request = RoundRequest(
            round=round_name("audit", index),
            rounds=self.rounds + 1,
            client=_NAME,
            nonce=secrets.token_bytes(NONCE_BYTES),
            task=TASK,
            tuning=self.tuning,
            prompt=self.proxy.start(),
            cohort=cohort,
            roster=Roster.of([own.keys.signing.public_key().public_bytes_raw(), *others]),
        )
        message = envelope_to_bytes(sign(request_to_bytes(request), REQUEST_TYPE, publisher))
        with Ledger.open(own.ledger) as ledger:
            participant = Participant(
                OwnerIdentity(_NAME, own.keys.signing, publisher.public_key()),
                self.settings.limits(),
                ledger,
                self.proxies,
                self.settings.data.path,
            )
            reply = participant.answer(message)
        return reply_from_bytes(envelope_from_bytes(reply).verify(own.keys.signing.public_key(), REPLY_TYPE))
