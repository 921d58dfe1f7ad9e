"""The runner: takes queued campaigns from the store, one after the other, up to a published prompt.

The store holds everything that a continuation needs. A coordinator that was killed continues each campaign at its
first unfinished round, or at the transfer. It never asks again a client whose release it has.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from coordinator.campaigns.start import first_start
from coordinator.campaigns.watch import to_resume
from coordinator.home.identity import Identity
from coordinator.home.settings import TargetSettings, chosen
from coordinator.publication.proxies import load_proxy
from coordinator.publication.publish import publish, published_by
from coordinator.publication.transfer import load_target, transfer_campaign
from coordinator.rounds.aggregation import Aggregate
from coordinator.rounds.cohort import Cohort
from coordinator.rounds.fleet import Fleet
from coordinator.rounds.history import retrace
from coordinator.rounds.plan import CampaignPlan
from coordinator.rounds.quorum import aggregate
from coordinator.rounds.round_spec import RoundSpec, directions, roster
from coordinator.rounds.server_optimizers import ServerOptimizer
from coordinator.store.records import Campaign, CampaignState, PromptVersion, ReplyRecord, Round, RoundState
from coordinator.store.states import ACTIVE
from coordinator.store.store import Store
from transfer.errors import PromptferryError, UsageError
from transfer.models.language_model import LanguageModel
from transfer.prompt import SoftPrompt

logger = logging.getLogger(__name__)

PROGRESS_EVERY_S = 2.0
DETAIL_LENGTH = 500


class Interrupted(Exception):  # noqa: N818 -- not an error: the campaign was aborted or the process is stopping
    """The campaign was aborted, or the process is stopping."""


@dataclass(frozen=True, slots=True, eq=False)
class Runner:
    """Runs a store's campaigns until `stop` is set; use one thread in one process for each store.

    Attributes:
        store: holds the campaigns.
        fleet: carries requests to clients.
        identity: signs requests and prompts.
        target: target for plans that name none.
        stop: event that ends `run`; a campaign in progress continues after a restart.
    """

    store: Store
    fleet: Fleet
    identity: Identity
    target: TargetSettings
    stop: threading.Event

    def run(self, poll_s: float) -> None:
        """Look for campaigns every `poll_s` seconds until `stop`; a failed campaign does not end the loop."""
        while not self.stop.is_set():
            try:
                campaign = self.claim()
                if campaign is not None:
                    self.carry_out(campaign)
                    continue
                self.fleet.listen()
            except Exception:  # the store itself fails, so there is nowhere to record it: try again
                logger.exception("looking for campaigns and late replies")
            self.stop.wait(poll_s)

    def carry_out(self, campaign: Campaign) -> None:
        """Run one campaign until it is PUBLISHED, FAILED or interrupted."""
        logger.info("campaign %s: %s", campaign.name, campaign.state.name)
        try:
            _Course(self, CampaignPlan.from_json(campaign.plan)).follow()
        except Interrupted:
            logger.info("campaign %s: interrupted", campaign.name)
        except PromptferryError as error:
            self._fail(campaign.name, str(error))
        except Exception as error:
            logger.exception("campaign %s: failed", campaign.name)
            self._fail(campaign.name, f"{type(error).__name__}: {error}")

    def claim(self) -> Campaign | None:
        """Return the next campaign: an interrupted one first, then the oldest queued one."""
        interrupted = (item for item in self.store.campaigns() if item.state in ACTIVE)
        return next(interrupted, None) or self.store.claim_campaign()

    def _fail(self, name: str, reason: str) -> None:
        detail = " ".join(reason.split())[:DETAIL_LENGTH]
        logger.error("campaign %s: failed: %s; %s", name, detail, to_resume(name))
        try:
            self.store.set_campaign_state(name, CampaignState.FAILED, detail)
        except UsageError:
            logger.info("campaign %s: was aborted meanwhile", name)


class _Course:
    """One campaign on its way through its states."""

    def __init__(self, runner: Runner, plan: CampaignPlan) -> None:
        self.store, self.runner, self.plan = runner.store, runner, plan
        self._server = ServerOptimizer(plan.strategy, plan.server)
        self._noted = 0.0

    def follow(self) -> None:
        """Run rounds, transfer and publication, and skip each part that the store already has."""
        if self.store.campaign(self.plan.name).state is not CampaignState.TRANSFERRING:
            self._rounds()
        self._move(CampaignState.TRANSFERRING, "rounds done")
        version = published_by(self.store, self.runner.identity, self.plan) or self._publish()
        self._move(CampaignState.PUBLISHED, f"{version.name} is published")

    def _rounds(self) -> None:
        proxy = load_proxy(self.store.proxy(self.plan.proxy), self.runner.target.placement)
        rounds = {item.index: item for item in self.store.rounds(self.plan.name)}
        # a start that was learnt is not learnt again: on another machine it might not come out the same
        rounds = rounds or {1: self._begin(proxy)}
        prompt = SoftPrompt.from_bytes(rounds[1].start_prompt, proxy.ref)
        for index in range(1, self.plan.rounds + 1):
            item = rounds.get(index)
            if item is None or item.state is RoundState.OPEN:
                item = self._open(index, prompt, proxy, item)
            if item.state is RoundState.OPEN:
                prompt = self._round(RoundSpec.of(self.plan, item, proxy.ref))
            else:
                prompt = self._retraced(item)

    def _begin(self, proxy: LanguageModel) -> Round:
        """Open the first round, and refuse a campaign that cannot finish before any client spends privacy on it.

        Raises:
            PromptferryError: public text, target, label words or library prompt are unusable.
        """
        self._note("checking proxy, target and public text")
        note = partial(self._on_step, "learning a start")
        start = first_start(self.store, self.runner.identity, self.plan, proxy, self._target(), note)
        return self._open(1, start.prompt, proxy, None, start.library)

    def _open(
        self,
        index: int,
        start: SoftPrompt,
        proxy: LanguageModel,
        opened: Round | None,
        library: Sequence[str] = (),
    ) -> Round:
        """Open a round; a round that is already open keeps its roster, subspace and library."""
        packed, keys, plan = None, roster(self.store).to_bytes(), self.plan
        if plan.dimensions and not opened:
            self._note(f"round {index} of {plan.rounds}: learning directions on public text")
            packed = directions(plan, index, start, proxy).to_bytes()
        return self.store.open_round(plan.name, index, start.to_bytes(), keys, packed, library)

    def _retraced(self, closed: Round) -> SoftPrompt:
        return retrace(self.store, self.runner.identity, self.plan, closed, self._server).prompt

    def _round(self, spec: RoundSpec) -> SoftPrompt:
        """Run one open round and return its aggregate."""
        plan, index = self.plan, spec.index
        cohort = Cohort(self.store, self.runner.identity, spec)
        answered = set(cohort.releases)

        def on_answer(client: str) -> None:
            answered.add(client)
            self._note(f"round {index} of {plan.rounds}: {len(answered)} of {len(cohort.clients)} answered")

        if len(cohort.clients) < plan.min_clients:
            raise UsageError(
                f"round {index}: {len(cohort.clients)} clients are enrolled, "
                f"the plan's min_clients is {plan.min_clients}; invite more clients and wait until they enrol"
            )
        self._note(f"round {index} of {plan.rounds}: asking {len(cohort.clients)} clients")
        cohort.ask(self.runner.fleet, self._interrupted, on_answer)
        self._go_on()
        return self._close(spec)

    def _close(self, spec: RoundSpec) -> SoftPrompt:
        """Close a round with the stored replies, whichever process received them."""
        plan, index = self.plan, spec.index
        results: list[Aggregate] = []

        def close(replies: Sequence[ReplyRecord]) -> tuple[bytes, Mapping[str, str]]:
            results.append(aggregate(self.store, self.runner.identity, spec, replies, self._server))
            return results[0].prompt.to_bytes(), results[0].dropped

        closed = self.store.finish_round(plan.name, index, close)
        for item in self.store.uncounted(plan.name, index):
            logger.warning(
                "campaign %s: round %d: %s: %s, not counted: %s",
                *(plan.name, index, item.client, item.outcome, item.reason),
            )
        if not results:  # another process closed the round first
            return self._retraced(closed)
        logger.info(
            "campaign %s: round %d of %d: %s of %d prompts",
            *(plan.name, index, plan.rounds, results[0].strategy, len(results[0].counted)),
        )
        return results[0].prompt

    def _publish(self) -> PromptVersion:
        runner = self.runner
        history, result = transfer_campaign(
            self.store, runner.identity, self.plan, runner.target, partial(self._on_step, "transfer")
        )
        self._go_on()
        return publish(self.store, runner.identity, self.plan, history, result)

    def _on_step(self, work: str, step: int, steps: int) -> None:
        if time.monotonic() - self._noted >= PROGRESS_EVERY_S:
            self._go_on()
            self.runner.fleet.listen()
            self._note(f"{work}: step {step} of {steps}")

    def _target(self) -> LanguageModel:
        return load_target(chosen(self.plan.target, self.runner.target))

    def _note(self, detail: str) -> None:
        """Record progress for observers, unless an abort came first."""
        self._noted = time.monotonic()
        state = self.store.campaign(self.plan.name).state
        if state in ACTIVE:
            try:
                self.store.set_campaign_state(self.plan.name, state, detail)
            except UsageError:
                logger.debug("campaign %s: was aborted meanwhile", self.plan.name)

    def _move(self, state: CampaignState, detail: str) -> None:
        self._go_on()
        try:
            self.store.set_campaign_state(self.plan.name, state, detail)
        except UsageError as error:
            raise Interrupted from error
        logger.info("campaign %s: %s: %s", self.plan.name, state.name, detail)

    def _interrupted(self) -> bool:
        return self.runner.stop.is_set() or self.store.campaign(self.plan.name).state not in ACTIVE

    def _go_on(self) -> None:
        if self._interrupted():
            raise Interrupted
