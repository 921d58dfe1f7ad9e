"""Keys and certificates of one coordinator: its own authority, its server certificate and its publisher key.

`init` makes them once and never overwrites them, because clients pin them. The server certificate is ECDSA on
purpose: with the cipher list in `coordinator/__init__.py`, gRPC cannot negotiate anything below TLS 1.3.
"""

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from coordinator.home import certificates
from transfer.errors import AlreadyExistsError, ConfigError, UsageError
from transfer.files.atomic import write_new

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class PkiPaths:
    """Paths of one coordinator's keys and certificates."""

    ca: Path
    ca_key: Path
    certificate: Path
    key: Path
    publisher_key: Path
    publisher_public_key: Path
    secret: Path

    @staticmethod
    def under(directory: Path) -> "PkiPaths":
        """Return the layout that `init` makes in a coordinator's directory."""
        pki = directory / "pki"
        return PkiPaths(
            ca=pki / "ca.pem",
            ca_key=pki / "ca.key",
            certificate=pki / "server.pem",
            key=pki / "server.key",
            publisher_key=directory / "publisher.key",
            publisher_public_key=directory / "publisher.pub",
            secret=directory / "secret",
        )


def create(paths: PkiPaths, hosts: Sequence[str] = ()) -> None:
    """Make every key and certificate; only their owner can read the private ones.

    Args:
        paths: paths of the new files; missing directories are made.
        hosts: names and addresses, beside the loopback ones, under which clients reach this coordinator.

    Raises:
        AlreadyExistsError: one of the files exists; none is changed.
        UsageError: a host is neither a name nor an address, or a file is not writable.
    """
    ca_key, server_key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    authority = certificates.authority(ca_key)
    certificate = certificates.server(server_key, authority, ca_key, hosts)
    publisher = Ed25519PrivateKey.generate()
    public = publisher.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _write_all(
        {
            paths.ca_key: (_private_pem(ca_key), 0o600),
            paths.ca: (authority.public_bytes(Encoding.PEM), 0o644),
            paths.key: (_private_pem(server_key), 0o600),
            paths.certificate: (certificate.public_bytes(Encoding.PEM), 0o644),
            paths.publisher_key: (_private_pem(publisher), 0o600),
            paths.publisher_public_key: (public, 0o644),
            paths.secret: (secrets.token_bytes(SECRET_BYTES), 0o600),
        }
    )


def load_publisher(path: Path) -> Ed25519PrivateKey:
    """Load the key that signs requests, proxies and prompts.

    Raises:
        ConfigError: the file is missing, open to others, or not an Ed25519 key.
    """
    key = load_private(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: not an Ed25519 private key")
    return key


def load_secret(path: Path) -> bytes:
    """Load the secret from which nonces are derived.

    Raises:
        ConfigError: the file is missing, open to others, or of the wrong length.
    """
    secret = _read_private(path)
    if len(secret) != SECRET_BYTES:
        raise ConfigError(
            f"{path}: has {len(secret)} bytes, expected {SECRET_BYTES}; restore the file that `init` made"
        )
    return secret


def load_private(path: Path) -> object:
    """Load a private key.

    Raises:
        ConfigError: the file is missing, open to others, or not an unencrypted PEM key.
    """
    try:
        return load_pem_private_key(_read_private(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path}: not an unencrypted PEM private key") from error


def certificate(path: Path) -> x509.Certificate:
    """Load the first certificate of a PEM file.

    Raises:
        ConfigError: the file is missing, not readable, or not PEM.
    """
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the certificate: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not a PEM certificate") from error


def load_server(paths: PkiPaths) -> tuple[bytes, bytes]:
    """Load the server's private key and certificate chain, PEM; `coordinator.home.renewal` checks their dates.

    Raises:
        ConfigError: a file is missing, open to others or not readable, or the key is not the certificate's.
    """
    path, key = paths.certificate, load_private(paths.key)
    shown = certificate(path)
    if not isinstance(key, EllipticCurvePrivateKey) or key.public_key() != shown.public_key():
        raise ConfigError(f"{paths.key}: not the ECDSA key of the certificate {path}")
    return _private_pem(key), path.read_bytes()


def _private_pem(key: EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_all(files: Mapping[Path, tuple[bytes, int]]) -> None:
    """Write all files or none, because a partial set is not usable and would block a second attempt."""
    for path in files:
        if path.exists():
            raise AlreadyExistsError(f"{path} exists already: keys are never overwritten")
    written: list[Path] = []
    try:
        for path, (content, mode) in files.items():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_new(path, content, mode)
            written.append(path)
    except BaseException as error:
        for path in written:
            path.unlink()
        if isinstance(error, OSError):
            raise UsageError(f"cannot make keys in {error.filename}: {error.strerror}") from error
        raise


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            if mode & 0o077:
                raise ConfigError(f"{path}: is open to others (mode {mode:04o}): run chmod 600 {path}")
            return file.read()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the key: {error.strerror}") from error
