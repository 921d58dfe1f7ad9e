"""The services of promptferry.v1 over a store: prompts, proxies, enrolment. They translate and keep no state.

They read the store on threads, so that a slow disk or a slow reader of a download blocks no other call.
"""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.delivery import paging
from coordinator.delivery.enrolment import Enrolment
from coordinator.delivery.errors import Context, errors_as_status
from coordinator.delivery.file_cache import FileCache
from coordinator.delivery.interceptor import peer_of
from coordinator.delivery.throttle import Refusals
from coordinator.network.admission import Admission
from coordinator.store.records import PromptVersion, ProxyRecord
from coordinator.store.store import Store
from promptferry.v1 import service_pb2, service_pb2_grpc
from transfer import names
from transfer.errors import DeadlineError, NotFoundError, UnavailableError, UsageError
from transfer.files.atomic import FileRef
from transfer.protocol.wire import envelope_message, model_message

CHUNK_BYTES = 32_768
"""Size of a chunk; a download without a reader keeps two or three chunks in memory."""
SERVICES = tuple(service.full_name for service in service_pb2.DESCRIPTOR.services_by_name.values())
"""Full names of the services, for the health service."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one call, in seconds.

    Attributes:
        request_s: longest time between a call's start and its request.
        unary_s: longest duration of a call that is not a download.
        stall_s: longest time that a download waits for its reader to take a chunk.
    """

    request_s: float = 10.0
    unary_s: float = 30.0
    stall_s: float = 60.0


@dataclass(frozen=True, slots=True)
class ServiceResources:
    """Parts that all services share: threads for the store, limits of a call, and the port's admission."""

    pool: Executor
    limits: Limits
    door: Admission


class _Service:
    def __init__(self, store: Store, resources: ServiceResources) -> None:
        self._store, self._limits, self._door = store, resources.limits, resources.door
        self._pool = resources.pool

    async def _on_a_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _send(self, context: Context, path: Path, size: int, offset: int) -> None:
        """Send bytes `offset` to `size` of a file, no faster than the reader takes them."""
        if not 0 <= offset <= size:
            raise UsageError(f"offset {offset} is outside the file of {size} bytes")
        peer = peer_of(context.peer())
        while offset < size:
            chunk = await self._on_a_thread(partial(_read, path, offset, size))
            if not chunk:
                raise UnavailableError("a file is shorter on disk than when it was published")
            try:
                async with asyncio.timeout(self._limits.stall_s):
                    await context.write(service_pb2.DownloadResponse(chunk=chunk))
            except TimeoutError:
                # a status would queue behind the chunks that nobody takes, and those would stay in memory
                self._door.hang_up(peer)
                raise DeadlineError(f"no chunk was taken for {self._limits.stall_s:g} s") from None
            self._door.noted(peer)
            offset += len(chunk)


class PromptService(_Service, service_pb2_grpc.PromptServiceServicer):
    """Published versions; a revoked version gets the same answer as one that never existed."""

    def __init__(self, store: Store, resources: ServiceResources, cache: FileCache) -> None:
        super().__init__(store, resources)
        self._cache = cache

    async def GetPromptVersion(  # noqa: N802
        self, request: service_pb2.GetPromptVersionRequest, context: Context
    ) -> service_pb2.PromptVersion:
        """Return one version, or the latest."""
        async with errors_as_status(context, self._limits.unary_s):
            prompt, version = names.parse_prompt_version(request.name)
            record = await self._on_a_thread(
                lambda: self._store.prompt_version(prompt, version, published_only=True)
            )
            return _version_message(record)

    async def ListPromptVersions(  # noqa: N802
        self, request: service_pb2.ListPromptVersionsRequest, context: Context
    ) -> service_pb2.ListPromptVersionsResponse:
        """Return a page of versions, newest first."""
        async with errors_as_status(context, self._limits.unary_s):
            prompt = names.parse_prompt_parent(request.parent)
            size = paging.size(request.page_size)
            after = paging.cursor(request.page_token, request.parent)
            records = await self._on_a_thread(
                lambda: self._store.prompt_versions(prompt, after=after, limit=size + 1, published_only=True)
            )
            page = records[:size]
            token = paging.token(page[-1].sequence, request.parent) if len(records) > size else ""
            return service_pb2.ListPromptVersionsResponse(
                prompt_versions=map(_version_message, page), next_page_token=token
            )

    async def DownloadPromptFile(  # type: ignore[override]  # noqa: N802 -- grpc.aio also takes one that writes
        self, request: service_pb2.DownloadRequest, context: Context
    ) -> None:
        """Send a file of one version, starting at an offset."""
        async with errors_as_status(context):
            prompt, version = names.parse_prompt_version(request.name)
            if version is None:
                raise UsageError(
                    f"{request.name}: a download names its version, because `latest` may change between two parts"
                )
            read = partial(self._store.prompt_version, prompt, version, published_only=True)
            file = _listed((await self._on_a_thread(read)).files, request)
            content = partial(self._store.prompt_file, prompt, version, file.path)
            path = await self._on_a_thread(lambda: self._cache.path(file, content))
            await self._send(context, path, file.size, request.offset)


class ProxyService(_Service, service_pb2_grpc.ProxyServiceServicer):
    """Proxies; the service opens only the files of a proxy's directory that its record lists."""

    async def GetProxy(  # noqa: N802
        self, request: service_pb2.GetProxyRequest, context: Context
    ) -> service_pb2.Proxy:
        """Return one proxy."""
        async with errors_as_status(context, self._limits.unary_s):
            name = names.parse_proxy(request.name)
            return _proxy_message(await self._on_a_thread(lambda: self._store.proxy(name)))

    async def ListProxies(  # noqa: N802
        self, request: service_pb2.ListProxiesRequest, context: Context
    ) -> service_pb2.ListProxiesResponse:
        """Return a page of proxies, newest first."""
        async with errors_as_status(context, self._limits.unary_s):
            size = paging.size(request.page_size)
            left = paging.cursor(request.page_token, "proxies")
            records = await self._on_a_thread(self._store.proxies)
            # a token counts from the oldest proxy, so that a new proxy does not shift the pages
            records = records if left is None else records[max(0, len(records) - left) :]
            page = records[:size]
            token = paging.token(len(records) - size, "proxies") if len(records) > size else ""
            return service_pb2.ListProxiesResponse(proxies=map(_proxy_message, page), next_page_token=token)

    async def DownloadProxyFile(  # type: ignore[override]  # noqa: N802 -- grpc.aio also takes one that writes
        self, request: service_pb2.DownloadRequest, context: Context
    ) -> None:
        """Send a file of a proxy, starting at an offset."""
        async with errors_as_status(context):
            name = names.parse_proxy(request.name)
            proxy = await self._on_a_thread(lambda: self._store.proxy(name))
            file = _listed(proxy.files, request)
            await self._send(context, proxy.directory / file.path, file.size, request.offset)


class EnrolmentService(service_pb2_grpc.EnrolmentServiceServicer):
    """Enrolment of data owners."""

    def __init__(self, enrolment: Enrolment, resources: ServiceResources) -> None:
        self._enrolment, self._pool, self._limits = enrolment, resources.pool, resources.limits
        self._refusals = Refusals()

    async def EnrolClient(  # noqa: N802
        self, request: service_pb2.EnrolClientRequest, context: Context
    ) -> service_pb2.EnrolClientResponse:
        """Enrol a client with the token of its invitation."""
        async with errors_as_status(context, self._limits.unary_s):
            async with self._refusals.slowed(peer_of(context.peer())[0], request.client):
                fields = (request.client, request.token, request.node_key, request.signing_key, request.proof)
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._pool, self._enrolment.enrol, *fields)
            return service_pb2.EnrolClientResponse(fleet_address=self._enrolment.fleet_address)


def add_services(
    server: grpc.aio.Server, store: Store, enrolment: Enrolment, resources: ServiceResources, cache: FileCache
) -> None:
    """Add every service of promptferry.v1 to a server."""
    service_pb2_grpc.add_PromptServiceServicer_to_server(PromptService(store, resources, cache), server)
    service_pb2_grpc.add_ProxyServiceServicer_to_server(ProxyService(store, resources), server)
    service_pb2_grpc.add_EnrolmentServiceServicer_to_server(EnrolmentService(enrolment, resources), server)


def _listed(files: Iterable[FileRef], request: service_pb2.DownloadRequest) -> FileRef:
    for file in files:
        if file.path == request.path:
            return file
    raise NotFoundError(f"no file {request.path!r} in {request.name}")


def _read(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(min(CHUNK_BYTES, size - offset))
    except OSError as error:
        raise UnavailableError(f"{path}: {error.strerror}") from error


def _version_message(version: PromptVersion) -> service_pb2.PromptVersion:
    created = Timestamp()
    created.FromDatetime(version.create_time)
    return service_pb2.PromptVersion(
        name=version.name,
        create_time=created,
        statement=envelope_message(version.statement),
        files=map(_file_message, version.files),
    )


def _proxy_message(proxy: ProxyRecord) -> service_pb2.Proxy:
    created = Timestamp()
    created.FromDatetime(proxy.create_time)
    return service_pb2.Proxy(
        name=names.proxy(proxy.name),
        model=model_message(proxy.model),
        parent=model_message(proxy.parent),
        layers=proxy.layers,
        files=map(_file_message, proxy.files),
        create_time=created,
        statement=envelope_message(proxy.statement),
    )


def _file_message(file: FileRef) -> service_pb2.FileRef:
    return service_pb2.FileRef(path=file.path, size=file.size, digest=file.digest)
