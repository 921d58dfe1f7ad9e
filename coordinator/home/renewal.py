"""The end of the coordinator's certificates, announced in time, and the renewal of the server certificate."""

import logging
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.home import certificates, pki
from coordinator.home.pki import PkiPaths
from coordinator.store.records import utc_now
from transfer import hints
from transfer.errors import ConfigError
from transfer.files.atomic import replace

logger = logging.getLogger(__name__)

SOON = timedelta(days=30)


def expiring(paths: PkiPaths, now: datetime) -> list[str]:
    """Return one line, with the remedy, for each certificate that expires within `SOON`.

    Raises:
        ConfigError: a certificate has expired or is not readable.
    """
    lines = []
    for what, path in (("certificate authority", paths.ca), ("server certificate", paths.certificate)):
        end = pki.certificate(path).not_valid_after_utc
        if end <= now:
            raise ConfigError(f"{path}: the {what} expired on {end:%Y-%m-%d}: {_remedy(what)}")
        if end - now <= SOON:
            days = (end - now).days
            lines.append(f"{path}: the {what} expires in {days} days, on {end:%Y-%m-%d}: {_remedy(what)}")
    return lines


def _remedy(what: str) -> str:
    if what == "server certificate":
        return f"{hints.coordinator('renew')} makes a new one; then start `serve` again"
    return "`init` another coordinator directory and have every client enrol there"


def warn(paths: PkiPaths) -> None:
    """Log the lines of `expiring` for the current time.

    Raises:
        ConfigError: a certificate has expired or is not readable.
    """
    for line in expiring(paths, utc_now()):
        logger.warning("%s", line)


def renew(paths: PkiPaths) -> datetime:
    """Make a new server certificate for the same key and names under the same authority, and return its end.

    No client has to enrol again, because clients and recipients pin the authority.

    Raises:
        ConfigError: a key or certificate is not usable, or the authority itself has expired.
        UsageError: the directory is not writable.
    """
    authority, old = pki.certificate(paths.ca), pki.certificate(paths.certificate)
    if authority.not_valid_after_utc <= utc_now():
        expiring(paths, utc_now())  # raises the error with the remedy
    names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = [str(name.value) for name in names]
    new = certificates.server(_key(paths.key), authority, _key(paths.ca_key), hosts)
    replace(paths.certificate, new.public_bytes(Encoding.PEM), mode=0o644)
    return min(new.not_valid_after_utc, authority.not_valid_after_utc)


def _key(path: Path) -> EllipticCurvePrivateKey:
    key = pki.load_private(path)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise ConfigError(f"{path}: not an ECDSA key; `renew` works with what `init` made")
    return key
