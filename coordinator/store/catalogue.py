"""The catalogue in the store: registered proxies and published prompt versions."""

from collections.abc import Callable, Mapping

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.store.database import Database
from coordinator.store.records import PromptState, PromptVersion, ProxyRecord, utc_now
from coordinator.store.tables import PromptFileRow, PromptVersionRow, ProxyFileRow, ProxyRow
from transfer import names
from transfer.errors import AlreadyExistsError, NotFoundError
from transfer.files.atomic import FileRef
from transfer.protocol.signing import Envelope
from transfer.protocol.wire import envelope_to_bytes

Build = Callable[[int], tuple[Envelope, Mapping[str, bytes]]]
"""Maps a version number to the version's signed statement and its files by name."""


class CatalogueStore:
    """The part of `Store` for proxies and prompts, under the contract of `Store`."""

    _database: Database

    def add_proxy(self, proxy: ProxyRecord) -> None:
        """Register a proxy. Its files must be in their directory and never change."""
        with self._database.writing() as session:
            if session.scalar(select(ProxyRow.id).where(ProxyRow.name == proxy.name)) is not None:
                raise AlreadyExistsError(f"proxy {proxy.name!r} exists already: choose another name")
            row = ProxyRow(
                name=proxy.name,
                model_name=proxy.model.name,
                model_digest=proxy.model.digest,
                parent_name=proxy.parent.name,
                parent_digest=proxy.parent.digest,
                layers=list(proxy.layers),
                directory=str(proxy.directory),
                statement=envelope_to_bytes(proxy.statement),
                create_time=proxy.create_time,
            )
            row.files = [
                ProxyFileRow(path=file.path, size=file.size, digest=file.digest) for file in proxy.files
            ]
            session.add(row)

    def proxy(self, name: str) -> ProxyRecord:
        """Return the proxy of that name."""
        with self._database.reading() as session:
            row = session.scalar(select(ProxyRow).where(ProxyRow.name == name))
            if row is None:
                raise NotFoundError(f"no proxy {name!r}")
            return row.value()

    def proxies(self) -> list[ProxyRecord]:
        """Return every proxy, newest first."""
        with self._database.reading() as session:
            return [row.value() for row in session.scalars(select(ProxyRow).order_by(ProxyRow.id.desc()))]

    def publish(self, prompt: str, build: Build) -> PromptVersion:
        """Publish the next version of `prompt`. Versions count from 1; no number is used twice.

        Args:
            prompt: name of the prompt.
            build: called once with the number, inside the transaction; if it raises, nothing is published.

        Raises:
            UsageError: `prompt` is not a valid name.
        """
        names.checked("prompt", prompt)
        with self._database.writing() as session:
            same = PromptVersionRow.prompt == prompt
            version = 1 + (session.scalar(select(func.max(PromptVersionRow.version)).where(same)) or 0)
            statement, files = build(version)
            row = PromptVersionRow(
                prompt=prompt,
                version=version,
                state="published",
                create_time=utc_now(),
                statement=envelope_to_bytes(statement),
            )
            row.files = [_file_row(path, files[path]) for path in sorted(files)]
            session.add(row)
            session.flush()
            return row.value()

    def prompt_version(
        self, prompt: str, version: int | None = None, *, published_only: bool = False
    ) -> PromptVersion:
        """Return one version, in any state unless `published_only`; None means the newest published one."""
        with self._database.reading() as session:
            return _version(session, prompt, version, published_only=published_only).value()

    def prompt_versions(
        self,
        prompt: str | None = None,
        *,
        after: int | None = None,
        limit: int = 1000,
        published_only: bool = False,
    ) -> list[PromptVersion]:
        """Return at most `limit` versions, newest first.

        Args:
            prompt: name of the prompt; None means every prompt.
            after: `sequence` of the last version on the previous page.
            limit: most versions to return, ≥ 1.
            published_only: exclude revoked versions.
        """
        query = select(PromptVersionRow).order_by(PromptVersionRow.id.desc()).limit(limit)
        if prompt is not None:
            query = query.where(PromptVersionRow.prompt == prompt)
        if after is not None:
            query = query.where(PromptVersionRow.id < after)
        if published_only:
            query = query.where(PromptVersionRow.state == "published")
        with self._database.reading() as session:
            return [row.value() for row in session.scalars(query)]

    def prompt_file(self, prompt: str, version: int, path: str) -> bytes:
        """Return the content of one file of a version."""
        with self._database.reading() as session:
            row = session.get(PromptFileRow, (_version(session, prompt, version).id, path))
            if row is None:
                raise NotFoundError(f"no file {path!r} in {names.prompt_version(prompt, version)}")
            return row.content

    def set_prompt_state(self, prompt: str, version: int, state: PromptState) -> None:
        """Revoke a version, or publish it again."""
        with self._database.writing() as session:
            _version(session, prompt, version).state = state


def _file_row(path: str, content: bytes) -> PromptFileRow:
    file = FileRef.of_bytes(path, content)
    return PromptFileRow(path=file.path, size=file.size, digest=file.digest, content=content)


def _version(
    session: Session, prompt: str, version: int | None, *, published_only: bool = False
) -> PromptVersionRow:
    query = select(PromptVersionRow).where(PromptVersionRow.prompt == prompt)
    query = query.order_by(PromptVersionRow.version.desc()).limit(1)
    if version is not None:
        query = query.where(PromptVersionRow.version == version)
    if version is None or published_only:
        query = query.where(PromptVersionRow.state == "published")
    row = session.scalar(query)
    if row is None:
        shown = f"prompt {prompt!r}" if version is None else f"version {version} of prompt {prompt!r}"
        raise NotFoundError(f"no {shown} is published")
    return row
