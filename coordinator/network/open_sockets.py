"""This process's own sockets: who is at the other end of them, and how to shut one down that another code owns."""

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
"""Address and port of the other end: one connection."""
OPEN_FILES = "/dev/fd"
WANTED_FILES = 65_536
OTHER_FILES = 256
"""Left for the store, for logs and for this process's own connections."""
_holding = threading.Lock()


def room(doors: int, most: int) -> int:
    """Connections, at most `most`, that each of some doors may hold, once the system gave all the files it gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    files = WANTED_FILES if soft == resource.RLIM_INFINITY else soft
    return max(1, min(most, (files - OTHER_FILES) // (2 * doors)))


@lru_cache(4096)
def group(host: str) -> str:
    """Whom an address belongs to: an IPv4 address to itself, an IPv6 address to its network of 64 bits."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)


def open_sockets() -> Iterator[tuple[int, int]]:
    """Descriptor and inode of every socket of this process."""
    for descriptor in _descriptors():
        try:
            status = os.fstat(descriptor)
        except OSError:  # closed meanwhile
            continue
        if stat.S_ISSOCK(status.st_mode) and descriptor != _spares()[0]:
            yield descriptor, status.st_ino


def peer_at(descriptor: int, port: int) -> Peer | None:
    """The other end of a socket that was accepted at our port; None of any other."""
    try:
        with _held(descriptor) as copy:
            if copy.family not in (socket.AF_INET, socket.AF_INET6) or copy.getsockname()[1] != port:
                return None
            host, peer_port = copy.getpeername()[:2]
    except OSError:  # closed meanwhile, or listening
        return None
    return plain(host), peer_port


def plain(host: str) -> str:
    """An IPv4 address as such, also where an IPv6 socket shows it."""
    return host.removeprefix("::ffff:")


def shut_down(descriptor: int, inode: int) -> None:
    """End a connection for both sides; whoever owns the socket still has to close it."""
    try:
        with _held(descriptor) as copy:
            if os.fstat(copy.fileno()).st_ino == inode:  # not one that took the number meanwhile
                copy.shutdown(socket.SHUT_RDWR)
    except OSError:  # closed meanwhile
        return


def _descriptors() -> Iterable[int]:
    try:
        with os.scandir(OPEN_FILES) as entries:
            return [int(entry.name) for entry in entries]
    except OSError:  # none is left to read the list with
        return range(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


@cache
def _spares() -> tuple[int, int]:
    """Two descriptors kept for `_held`: it has to work when there is no other one."""
    return os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_RDONLY)


@contextmanager
def _held(descriptor: int) -> Iterator[socket.socket]:
    """A socket that another code may close at any time, for a moment under a descriptor of our own."""
    own, nothing = _spares()
    with _holding:
        os.dup2(descriptor, own, inheritable=False)
        try:
            copy = socket.socket(fileno=own)
            try:
                yield copy
            finally:
                copy.detach()
        finally:
            os.dup2(nothing, own, inheritable=False)
