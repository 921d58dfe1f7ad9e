"""The checks of `promptferry-coordinator doctor`, from the settings to the serving process."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from coordinator.campaigns import watch as watching
from coordinator.home import pki
from coordinator.home import renewal as expiry
from coordinator.home import settings as config
from coordinator.home.identity import pki_paths
from coordinator.home.settings import CoordinatorConfig
from coordinator.publication import proxies
from coordinator.publication.transfer import load_target
from coordinator.store.records import ClientState, utc_now
from coordinator.store.store import Store
from transfer import hints
from transfer.errors import ConfigError, UnavailableError, VerificationError
from transfer.models.self_check import require_sound
from transfer.protocol.signing import key_id
from transfer.terminal import doctor as checkup
from transfer.terminal.doctor import Check


def examine(directory: Path) -> list[Check]:
    """Check everything that a campaign needs."""
    checks: dict[str, Callable[[CoordinatorConfig], str]] = {
        "keys": _keys,
        "certificate": _certificate,
        "target": _target,
        "store": _store,
        "proxies": _proxies,
        "serving": _serving,
    }
    return checkup.examine(directory / config.FILE, lambda: config.read(directory), checks)


def _keys(settings: CoordinatorConfig) -> str:
    pki.load_secret(settings.pki.secret)
    publisher = pki.load_publisher(settings.pki.publisher_key)
    return f"publisher key {key_id(publisher.public_key())[:16]}…"


def _certificate(settings: CoordinatorConfig) -> str:
    paths = pki_paths(settings)
    pki.load_server(paths)
    if lines := expiry.expiring(paths, utc_now()):
        raise ConfigError("; ".join(lines))
    end = min(pki.certificate(path).not_valid_after_utc for path in (paths.ca, paths.certificate))
    return f"{settings.pki.certificate} and its key belong together, until {end:%Y-%m-%d}"


def _target(settings: CoordinatorConfig) -> str:
    model = load_target(settings.target)
    require_sound(model)
    kind = "without an LM head" if model.lm_head == "none" else model.lm_head
    return f"{model.ref.name} {model.ref.digest[:16]}…, {kind}, hidden size {model.width}"


def _store(settings: CoordinatorConfig) -> str:
    with closing(Store.open(settings.store.url)) as store:
        clients = store.clients()
        enrolled = sum(client.state is ClientState.ENROLLED for client in clients)
        return f"{enrolled} of {len(clients)} clients enrolled, {len(store.campaigns())} campaigns"


def _proxies(settings: CoordinatorConfig) -> str:
    with closing(Store.open(settings.store.url)) as store:
        records = store.proxies()
    broken = [record.name for record in records if not proxies.intact(record)]
    if broken:
        raise VerificationError(
            f"proxy {', '.join(broken)}: the files differ from those registered; restore them"
        )
    return f"{len(records)} on offer, as registered"


def _serving(settings: CoordinatorConfig) -> str:
    with closing(Store.open(settings.store.url)) as store:
        if not watching.served(store):
            raise UnavailableError(f"no coordinator serves this store; start {hints.coordinator('serve')}")
    return "a coordinator serves this store"
