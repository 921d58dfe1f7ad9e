"""A real coordinator on loopback: TLS, Flower, gRPC and an SQLite store, with one proxy to fetch."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import tomli_w
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from transformers.utils import logging as transformers_logging

from client.home import custody
from coordinator.delivery.enrolment import Enrolment, invite
from coordinator.delivery.server import DeliveryServer
from coordinator.flower.federation import Federation
from coordinator.home import pki
from coordinator.home.pki import PkiPaths
from coordinator.network.https_server import LinkSettings
from coordinator.store.records import ProxyRecord, utc_now
from coordinator.store.store import Store
from tests.client.commands.audited import PLANTED
from tests.client.commands.command import TASK, Command
from tests.client.home.sealing import Home, copy
from transfer.files.atomic import FileRef
from transfer.model_ref import ModelRef
from transfer.protocol.signing import PROXY_PREDICATE, STATEMENT_TYPE, sign, statement
from transfer.protocol.statement import ModelV1, ProxyStatement

PROXY = "tiny"


@dataclass
class Site:
    """What a data owner meets over the network, and the files its operator hands over."""

    directory: Path
    paths: PkiPaths
    store: Store
    federation: Federation
    address: str
    proxy: ModelRef

    @property
    def publisher(self) -> Ed25519PrivateKey:
        return pki.load_publisher(self.paths.publisher_key)

    def invite(self, client: str, lifetime: timedelta = timedelta(days=1), /, **changes: str) -> Path:
        """File of a new invitation, with some of its fields changed."""
        content = {
            "client": client,
            "token": invite(self.store, client, utc_now(), lifetime),
            "coordinator": self.address,
            "ca": self.paths.ca.read_text(),
            "publisher_key": self.paths.publisher_public_key.read_text(),
            "expire_time": utc_now() + lifetime,
        }
        path = self.directory / f"{client}.toml"
        path.write_text(tomli_w.dumps({**content, **changes}))
        return path


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_causal: Path) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    paths = PkiPaths.under(directory)
    pki.create(paths)
    store = Store.open(f"sqlite:///{directory / 'store.db'}")
    proxy = ModelRef.of_directory(PROXY, tiny_causal)
    _offer(store, proxy, tiny_causal, pki.load_publisher(paths.publisher_key))
    link = LinkSettings("127.0.0.1", 0, paths.certificate, paths.key, paths.ca, directory / "flower.db")
    with Federation(link) as federation:
        enrolment = Enrolment(store, federation.register, federation.address)
        server = DeliveryServer(store, "127.0.0.1", 0, paths, enrolment, directory / "served")
        address = f"127.0.0.1:{server.start()}"
        yield Site(directory, paths, store, federation, address, proxy)
        server.stop(1.0)
    store.close()


def _offer(store: Store, proxy: ModelRef, directory: Path, publisher: Ed25519PrivateKey) -> None:
    files = tuple(FileRef.of_file(path) for path in sorted(directory.iterdir()))
    model, nothing = ModelV1.of(proxy), {"held_out_perplexity": None, "target_perplexity": None}
    stated = ProxyStatement(proxy=model, parent=model, layers=(0, 1), steps=0, held_out_kl=0.0, **nothing)
    signed = statement({file.path: file.digest for file in files}, PROXY_PREDICATE, stated.to_predicate())
    envelope = sign(signed, STATEMENT_TYPE, publisher)
    store.add_proxy(ProxyRecord(proxy.name, proxy, proxy, (0, 1), files, directory, envelope))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A client's directory that is not encrypted, with secrets planted in it."""
    home = Home.made(tmp_path_factory.mktemp("plain"))
    home.fill(None, range(2))
    return home


@pytest.fixture(scope="module")
def sealed(plain: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A copy of it, encrypted afterwards."""
    home = copy(plain, tmp_path_factory.mktemp("sealed"))
    custody.reseal(home.settings(None), home.old)
    return home


@pytest.fixture
def auditing(tmp_path: Path, tiny_causal: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """The command in a directory with records to audit; what it sets for its whole process is put back."""
    rows = [{"text": f"patient {text} was fine", "label": index % 2} for index, text in enumerate(PLANTED)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (tmp_path / "task.toml").write_text(TASK)
    (tmp_path / "tmp").mkdir()
    command = Command(tmp_path / "client", capsys)
    assert command.init("--task", "reviews", "--proxy", "*", "--threads", 1) == 0
    (command.directory / "proxies").mkdir()
    (command.directory / "proxies" / "tiny").symlink_to(tiny_causal)
    root, rounds = logging.getLogger(), logging.getLogger("client.rounds")
    handlers, levels = root.handlers[:], (root.level, rounds.level)
    yield command
    root.handlers[:] = handlers
    for logger, level in zip((root, rounds), levels, strict=True):
        logger.setLevel(level)
    transformers_logging.enable_progress_bar()
