"""The data owner's daemon: one process that stays connected and answers rounds until it is stopped."""

import logging

from client.daemon import terminal
from client.daemon.link import Link
from client.home import custody, enrolment
from client.home.lock import locked
from client.home.settings import ClientConfig
from client.ledger.ledger import Ledger
from transfer.progress import doing
from transfer.terminal.signals import stopped_by_signals

logger = logging.getLogger(__name__)

STOP_WITHIN_S = 9.0
"""Longest wait for a step of tuning after a signal. Ending earlier is safe: the spend is already written down."""


def run(config: ClientConfig, *, ask: bool = False) -> None:
    """Answer rounds until SIGTERM or SIGINT; call it from the main thread.

    Args:
        config: the client's settings.
        ask: whether to ask on the terminal before the first round of each campaign.

    Raises:
        ConfigError: the client is not enrolled.
        DataError: the private data is missing.
        LedgerError: the ledger cannot be trusted.
        UsageError: there is no terminal to ask on.
        UnavailableError: another daemon runs here, or the coordinator's certificate is not accepted.
        AuthenticationError: the coordinator does not know this client, or no longer.
    """
    if ask:
        terminal.require()
    pinned, own = enrolment.read(config), custody.load(config)
    config.data.require_readable()
    with doing("starting"):  # the checks above report their faults before PyTorch is imported
        import torch

        from client.daemon.polling import serve
        from client.rounds.consent import Consent, always
        from client.rounds.participant import Participant
        from client.rounds.proxies import Proxies
        from client.rounds.release import OwnerIdentity
    if config.daemon.threads:
        torch.set_num_threads(config.daemon.threads)
    link = Link(pinned.fleet, pinned.ca_pem, own.keys.node, config.daemon.poll_s)
    # a kill loses nothing: the ledger is durable and the kernel releases the lock
    with (
        locked(config.lock_file),
        Ledger.open(own.ledger) as ledger,
        stopped_by_signals(STOP_WITHIN_S) as stop,
    ):
        limits = config.limits()
        asking = Consent.by(terminal.agrees, own.agreements, ledger, limits.budget, stop)
        participant = Participant(
            OwnerIdentity(pinned.client, own.keys.signing, pinned.publisher),
            limits,
            ledger,
            Proxies(config.proxies_directory, pinned.fetch, config.placement),
            config.data.path,
            consent=asking.require if ask else always,
            stop=stop,
        )
        logger.info("client %s waits for rounds from %s", pinned.client, pinned.fleet)
        serve(link, participant.answer, stop)
    logger.info("stopped")
