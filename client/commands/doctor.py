"""The checks of `promptferry-client doctor`, from the settings to the coordinator's clock."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
from cryptography import x509

from client.daemon.link import Link
from client.home import custody, enrolment
from client.home import settings as config
from client.home.settings import ClientConfig
from client.ledger.ledger import Ledger
from transfer import hints
from transfer.errors import PromptferryError, UnavailableError
from transfer.terminal import doctor as checkup
from transfer.terminal.doctor import Check

SOON = timedelta(days=30)
"""A certificate that expires within this time fails its check."""
CLOCK_SLACK_S = 60.0
"""Largest accepted difference of the clocks. At 300 s the coordinator refuses the node's signatures."""


def examine(directory: Path) -> list[Check]:
    """Check everything that a round needs."""
    checks: dict[str, Callable[[ClientConfig], str]] = {
        "policy": _policy,
        "keys": _keys,
        "encryption": _encryption,
        "data": _data,
        "ledger": _ledger,
        "delivery": _delivery,
        "certificate": _certificate,
        "rounds": _rounds,
    }
    return checkup.examine(directory / config.FILE, lambda: config.read(directory), checks)


def _policy(settings: ClientConfig) -> str:
    limits = settings.limits()
    allowed = (
        ", ".join(limits.tasks) if limits.tasks and limits.proxies else "nothing: name tasks and proxies"
    )
    return f"ε {limits.budget.epsilon:g} at δ {limits.budget.delta:g} for one {limits.unit}; allows {allowed}"


def _keys(settings: ClientConfig) -> str:
    return f"signing key {custody.load(settings).keys.key_id[:16]}…"


def _encryption(settings: ClientConfig) -> str:
    if not settings.vault_file.exists():
        return f"nothing is encrypted; {hints.client('encrypt --secret FILE')} seals keys and ledger"
    vault = custody.load(settings).ledger.vault
    if len(vault.seals) > 1:
        raise PromptferryError(f"encryption was interrupted: run {hints.client('encrypt')} again as before")
    return f"keys and ledger are sealed with key {vault.newest.version} of {settings.vault_file}"


def _data(settings: ClientConfig) -> str:
    path = settings.data.path
    if not path.is_file() or not os.access(path, os.R_OK):
        raise PromptferryError(f"{path} is not a readable file: correct [data] path")
    return f"{path}, {path.stat().st_size} bytes; {hints.client('data check')} reads it"


def _ledger(settings: ClientConfig) -> str:
    delta = settings.limits().budget.delta
    with Ledger.open(custody.load(settings).ledger) as ledger:
        spent = max((ledger.epsilon(name, delta) for name in ledger.data_sets()), default=0.0)
        return f"{ledger.head()[0]} entries hold; ε {spent:.4g} spent of {settings.policy.max_epsilon:g}"


def _delivery(settings: ClientConfig) -> str:
    pinned = enrolment.read(settings)
    with pinned.remote() as remote:
        proxies = list(remote.proxies())
    return f"{pinned.coordinator} answers; {len(proxies)} proxies"


def _certificate(settings: ClientConfig) -> str:
    """Check the expiry of the coordinator's certificate and of the pinned authority."""
    pinned = enrolment.read(settings)
    link = Link(pinned.fleet, pinned.ca_pem, custody.load(settings).keys.node)
    try:
        shown = link.shown_until()
    except httpx.HTTPError as error:
        raise UnavailableError(link.explain(error)) from error
    authority = x509.load_pem_x509_certificate(pinned.ca_pem).not_valid_after_utc
    ends = {"certificate": shown, "certificate authority": authority}
    what = min(ends, key=lambda item: ends[item])
    if (left := ends[what] - datetime.now(UTC)) <= SOON:
        raise PromptferryError(
            f"the {what} of {pinned.fleet} expires in {left.days} days, on {ends[what]:%Y-%m-%d}: "
            "ask its operator to renew it in time"
        )
    return f"{pinned.fleet} shows one that holds until {ends[what]:%Y-%m-%d}"


def _rounds(settings: ClientConfig) -> str:
    """Check the Fleet endpoint, and with its Date header whether both clocks agree."""
    pinned = enrolment.read(settings)
    link = Link(pinned.fleet, pinned.ca_pem, custody.load(settings).keys.node)
    try:
        with link.http(link.trust()) as http:
            response = http.get(f"https://{pinned.fleet}/")
    except httpx.HTTPError as error:
        raise UnavailableError(link.explain(error)) from error
    stated = response.headers.get("date")
    if stated is None:
        return f"{pinned.fleet} answers; it does not report its time"
    off_s = (datetime.now(UTC) - parsedate_to_datetime(stated)).total_seconds()
    if abs(off_s) > CLOCK_SLACK_S:
        raise PromptferryError(f"this clock is {off_s:+.0f} s off the coordinator's: set it by NTP")
    return f"{pinned.fleet} answers; clocks agree within {CLOCK_SLACK_S:g} s"
