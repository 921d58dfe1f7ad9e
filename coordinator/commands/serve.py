"""The serving process: Flower, delivery and the campaign runner together, until a signal stops it."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from transformers.utils import logging as transformers_logging

from coordinator.campaigns.runner import Runner
from coordinator.delivery.enrolment import Enrolment
from coordinator.delivery.server import DeliveryServer
from coordinator.flower.federation import Federation
from coordinator.home import renewal as expiry
from coordinator.home.identity import identity, pki_paths
from coordinator.home.pki import PkiPaths
from coordinator.home.settings import CoordinatorConfig
from coordinator.network.admission import AdmissionLimits
from coordinator.network.https_server import LinkSettings
from coordinator.network.open_sockets import room
from coordinator.store.records import ClientState, utc_now
from coordinator.store.store import Store
from transfer.errors import NotFoundError, PromptferryError
from transfer.models.self_check import require_sound_at
from transfer.terminal.signals import stopped_by_signals

logger = logging.getLogger(__name__)

BEAT_EVERY_S = 2.0
DELIVERY_GRACE_S = 4.0
SLOWEST_ANSWER_S = 600.0
COPIES = "served"
"""Name of the directory beside Flower's database that caches prompts' files for downloads."""
CERTIFICATES_EVERY_S = 86_400.0
STOP_WITHIN_S = 9.0
"""Longest time from SIGTERM to the end of the process; the next process continues campaigns from the store."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses of a serving coordinator, host:port."""

    delivery: str
    fleet: str


def serve(config: CoordinatorConfig, on_ready: Callable[[Addresses], None]) -> None:
    """Serve until SIGTERM or SIGINT; call it from the main thread.

    Raises:
        UnavailableError: a port is in use.
        ConfigError: a key, certificate or database is not usable.
        ModelError: the target does not load, or fails its self-check.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if config.serve.threads:
        torch.set_num_threads(config.serve.threads)
    ours, paths = identity(config), pki_paths(config)
    require_sound_at(config.target.source, config.target.placement)
    # stopping does not wait for a long step of a large target, because the store has every finished part
    with stopped_by_signals(STOP_WITHIN_S) as stop, ExitStack() as stack:
        store = Store.open(config.store.url)
        stack.callback(store.close)
        door = AdmissionLimits(connections=room(2, AdmissionLimits().connections))
        federation = stack.enter_context(Federation(_link(config, door)))
        attendant = _Attendant(store, federation, paths)
        attendant.admit()
        fleet = config.flower.address(int(federation.address.rpartition(":")[2]))
        enrolment = Enrolment(store, federation.register, fleet)
        copies = config.flower.database.with_name(COPIES)
        delivery = DeliveryServer(
            store, config.delivery.host, config.delivery.port, paths, enrolment, copies, door=door
        )
        port = delivery.start()
        runner = Runner(store, federation, ours, config.target, stop)
        work = threading.Thread(target=runner.run, args=(config.serve.poll_s,), name="campaigns", daemon=True)
        work.start()
        stack.callback(work.join)
        stack.callback(delivery.stop, DELIVERY_GRACE_S)  # before the join: NOT_SERVING, and no new calls
        stack.callback(stop.set)
        store.beat(utc_now())
        on_ready(Addresses(f"{config.delivery.host}:{port}", federation.address))
        while not stop.wait(BEAT_EVERY_S):
            attendant.attend()
    logger.info("stopped")


class _Attendant:
    """Writes the heartbeat, and keeps Flower's list of nodes equal to the store's list of clients."""

    def __init__(self, store: Store, federation: Federation, paths: PkiPaths) -> None:
        self._store, self._federation, self._paths = store, federation, paths
        self._shut_out: set[str] = set()
        self._checked = time.monotonic()

    def admit(self) -> None:
        """Register every enrolled client again, because Flower's own database may be lost."""
        for client in self._store.clients():
            if client.state is ClientState.ENROLLED and client.node_key is not None:
                self._federation.register(client.node_key, client.name)

    def attend(self) -> None:
        """Write the heartbeat, and unregister clients that another process revoked."""
        try:
            self._store.beat(utc_now())
            for client in self._store.clients():
                if client.state is ClientState.REVOKED and client.name not in self._shut_out:
                    self._unregister(client.name)
        except PromptferryError as error:  # the next heartbeat tries again
            logger.warning("looking after clients: %s", error)
        self._check_certificates()

    def _check_certificates(self) -> None:
        """Warn of expiring certificates once a day; the `serve` command checks them at its start."""
        if time.monotonic() - self._checked < CERTIFICATES_EVERY_S:
            return
        self._checked = time.monotonic()
        try:
            expiry.warn(self._paths)
        except PromptferryError as error:
            logger.warning("%s", error)

    def _unregister(self, name: str) -> None:
        try:
            self._federation.unregister(name)
            logger.info("client %s is revoked and shut out", name)
        except NotFoundError:
            logger.debug("client %s was shut out before", name)
        self._shut_out.add(name)


def _link(config: CoordinatorConfig, door: AdmissionLimits) -> LinkSettings:
    return LinkSettings(
        host=config.flower.host,
        port=config.flower.port,
        certificate=config.pki.certificate,
        certificate_key=config.pki.key,
        ca=config.pki.ca,
        database=config.flower.database,
        # the server writes a reply as a whole, and a node on a slow line may take this long to read it
        door=replace(door, quiet_s=SLOWEST_ANSWER_S),
    )
