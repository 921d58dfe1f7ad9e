"""This process's own sockets: their peers, and a way to shut down a socket that other code owns."""

import ipaddress
import os
import resource
import socket
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache

Peer = tuple[str, int]
"""Address and port of the other end, which identify one connection."""
OPEN_FILES = "/dev/fd"
WANTED_FILES = 65_536
OTHER_FILES = 256
"""Open files reserved for the store, for logs and for this process's own connections."""
_spares_lock = threading.Lock()


def room(ports: int, most: int) -> int:
    """Raise the limit of open files, and return the connections for each of `ports` ports, at most `most`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    files = WANTED_FILES if soft == resource.RLIM_INFINITY else soft
    return max(1, min(most, (files - OTHER_FILES) // (2 * ports)))


@lru_cache(4096)
def group(host: str) -> str:
    """Return the group of an address: an IPv4 address itself, or the /64 network of an IPv6 address."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)


def open_sockets() -> Iterator[tuple[int, int]]:
    """Yield descriptor and inode of every socket of this process."""
    for descriptor in _descriptors():
        try:
            status = os.fstat(descriptor)
        except OSError:  # closed meanwhile
            continue
        if stat.S_ISSOCK(status.st_mode) and descriptor != _spares()[0]:
            yield descriptor, status.st_ino


def peer_at(descriptor: int, port: int) -> Peer | None:
    """Return the other end of a socket accepted at `port`; None for any other socket."""
    try:
        with _duplicate(descriptor) as copy:
            if copy.family not in (socket.AF_INET, socket.AF_INET6) or copy.getsockname()[1] != port:
                return None
            host, peer_port = copy.getpeername()[:2]
    except OSError:  # closed meanwhile, or listening
        return None
    return plain(host), peer_port


def plain(host: str) -> str:
    """Return an IPv4 address in its own form, even if an IPv6 socket reported it; others unchanged."""
    return host.removeprefix("::ffff:")


def shut_down(descriptor: int, inode: int) -> None:
    """End a connection for both sides; the owner of the socket still has to close it."""
    try:
        with _duplicate(descriptor) as copy:
            if os.fstat(copy.fileno()).st_ino == inode:  # a new socket may have the same number
                copy.shutdown(socket.SHUT_RDWR)
    except OSError:  # closed meanwhile
        return


def _descriptors() -> Iterable[int]:
    try:
        with os.scandir(OPEN_FILES) as entries:
            return [int(entry.name) for entry in entries]
    except OSError:  # no descriptor is left for reading the list
        return range(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


@cache
def _spares() -> tuple[int, int]:
    """Reserve two descriptors for `_duplicate`, which must work when no other one is left."""
    return os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_RDONLY)


@contextmanager
def _duplicate(descriptor: int) -> Iterator[socket.socket]:
    """Duplicate a socket that other code may close at any time, for the duration of the body."""
    own, nothing = _spares()
    with _spares_lock:
        os.dup2(descriptor, own, inheritable=False)
        try:
            copy = socket.socket(fileno=own)
            try:
                yield copy
            finally:
                copy.detach()
        finally:
            os.dup2(nothing, own, inheritable=False)
