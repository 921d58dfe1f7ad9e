"""Clients in the store: invited, enrolled, revoked."""

import hashlib
import hmac
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from coordinator.store.database import Database
from coordinator.store.records import Client, ClientState, utc_now
from coordinator.store.replies import withdraw
from coordinator.store.tables import ClientRow
from transfer import names
from transfer.errors import AlreadyExistsError, AuthenticationError, NotFoundError

REFUSED = "enrolment refused: unknown client, or a wrong, used or expired token; ask for a new invitation"
"""The only text for every reason, so that a stranger does not learn who was invited or enrolled."""


def token_digest(token: str) -> str:
    """Return the SHA-256 of an invitation's token in hex; the token itself is never stored."""
    return hashlib.sha256(token.encode()).hexdigest()


class ClientStore:
    """The part of `Store` for clients, under the contract of `Store`."""

    _database: Database

    def invite(self, client: str, token_digest: str, expire_time: datetime) -> Client:
        """Let `client` enrol with a token until `expire_time`; a new invitation replaces an unused one.

        Raises:
            UsageError: `client` is not a valid name.
            AlreadyExistsError: the client is enrolled or revoked.
        """
        names.checked("client", client)
        with self._database.writing() as session:
            row = session.get(ClientRow, client)
            if row is None:
                row = ClientRow(name=client, state=ClientState.INVITED.value, create_time=utc_now())
                session.add(row)
            elif row.state != ClientState.INVITED.value:
                raise AlreadyExistsError(f"client {client!r} is {row.state} already: invite another name")
            row.token_digest, row.expire_time = token_digest, expire_time
            return row.value()

    def enrol(self, client: str, token: str, node_key: bytes, signing_key: bytes, now: datetime) -> Client:
        """Enrol an invited client with its keys. The token works for one pair of keys, which may be sent again.

        Raises:
            AuthenticationError: the client is unknown or revoked, or the token is wrong, expired or used with
                other keys.
            AlreadyExistsError: another client has one of the keys.
        """
        with self._database.reading() as session:  # refuse a stranger's guess without the writers' lock
            _invited(session, client, token)
        with self._database.writing() as session:
            row = _invited(session, client, token)
            if row.state == ClientState.ENROLLED.value:
                if (row.node_key, row.signing_key) != (node_key, signing_key):
                    raise _refused("the token was used, with other keys")
                return row.value()
            if row.state != ClientState.INVITED.value:
                raise _refused(f"the client is {row.state}")
            if now >= row.expire_time:
                raise _refused(f"the token expired at {row.expire_time:%Y-%m-%d %H:%M} UTC")
            _refuse_shared_keys(session, client, node_key, signing_key)
            row.state = ClientState.ENROLLED.value
            row.node_key, row.signing_key, row.enrol_time = node_key, signing_key, now
            return row.value()

    def set_node(self, client: str, node_id: int) -> None:
        """Store Flower's number of the client's node."""
        with self._database.writing() as session:
            _client(session, client).node_id = str(node_id)

    def revoke(self, client: str) -> Client:
        """Revoke a client for good; its name and keys stay reserved.

        Its releases in open rounds no longer count.
        """
        with self._database.writing() as session:
            row = _client(session, client)
            withdraw(session, client)
            row.state = ClientState.REVOKED.value
            return row.value()

    def client(self, name: str) -> Client:
        """Return the client of that name."""
        with self._database.reading() as session:
            return _client(session, name).value()

    def clients(self) -> list[Client]:
        """Return every client, ordered by name."""
        with self._database.reading() as session:
            return [row.value() for row in session.scalars(select(ClientRow).order_by(ClientRow.name))]


def _client(session: Session, name: str) -> ClientRow:
    row = session.get(ClientRow, name)
    if row is None:
        raise NotFoundError(f"no client {name!r}")
    return row


def _invited(session: Session, client: str, token: str) -> ClientRow:
    row = session.get(ClientRow, client)
    expected = "" if row is None else row.token_digest
    if not hmac.compare_digest(token_digest(token), expected) or row is None:
        raise _refused("no such client was invited" if row is None else "the token is wrong")
    return row


def _refused(why: str) -> AuthenticationError:
    """Return the error for a stranger, with the reason as a note for the operator's log."""
    error = AuthenticationError(REFUSED)
    error.add_note(why)
    return error


def _refuse_shared_keys(session: Session, client: str, node_key: bytes, signing_key: bytes) -> None:
    """Refuse a key of another client: two names with one key would give one data owner two votes."""
    same = or_(ClientRow.node_key == node_key, ClientRow.signing_key == signing_key)
    if session.scalar(select(ClientRow.name).where(same, ClientRow.name != client)) is not None:
        raise AlreadyExistsError(f"a key of client {client!r} is enrolled under another name: make new keys")
