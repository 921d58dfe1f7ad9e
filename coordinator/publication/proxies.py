"""Proxies at the coordinator: copy, sign and register them, and load exactly the registered files."""

import shutil
from pathlib import Path

from coordinator.home.identity import Identity
from coordinator.store.records import ProxyRecord
from coordinator.store.store import Store
from transfer.distillation.proxy import Proxy
from transfer.errors import VerificationError
from transfer.files.atomic import FileRef, appearing
from transfer.model_ref import ModelRef
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.models.self_check import require_sound
from transfer.placement.settings import HERE, Placement
from transfer.protocol.signing import PROXY_PREDICATE, STATEMENT_TYPE, sign, statement
from transfer.protocol.statement import ModelV1, ProxyStatement


def copy(source: Path, place: Path) -> None:
    """Copy the proxy directory `source` to `place`; `place` appears whole or not at all.

    Raises:
        ModelError: `source` is not a proxy, or fails its self-check.
        UsageError: `place` is not writable.
    """
    require_sound(Proxy.load(source).model)
    with appearing(place) as draft:
        shutil.copytree(source, draft, dirs_exist_ok=True)


def register(store: Store, identity: Identity, place: Path) -> Proxy:
    """Sign the proxy at `place` and offer it to clients under the directory's name.

    Raises:
        ModelError: `place` is not a proxy, or fails its self-check.
        AlreadyExistsError: a proxy of that name is registered.
    """
    proxy = Proxy.load(place, name=place.name)
    require_sound(proxy.model)
    files = tuple(FileRef.of_file(path) for path in sorted(place.iterdir()) if path.is_file())
    stated = proxy_statement(proxy).to_predicate()
    content = statement({file.path: file.digest for file in files}, PROXY_PREDICATE, stated)
    store.add_proxy(
        ProxyRecord(
            name=place.name,
            model=proxy.model.ref,
            parent=proxy.parent,
            layers=proxy.layers,
            files=files,
            directory=place.resolve(),
            statement=sign(content, STATEMENT_TYPE, identity.publisher),
        )
    )
    return proxy


def proxy_statement(proxy: Proxy) -> ProxyStatement:
    """Return the statement to sign about a proxy."""
    return ProxyStatement(
        proxy=ModelV1.of(proxy.model.ref),
        parent=ModelV1.of(proxy.parent),
        layers=proxy.layers,
        steps=proxy.steps,
        held_out_kl=proxy.held_out_kl,
        held_out_perplexity=proxy.held_out_perplexity,
        target_perplexity=proxy.target_perplexity,
    )


def load_proxy(record: ProxyRecord, placement: Placement = HERE) -> LanguageModel:
    """Load the model of a registered proxy onto the device of the target's `placement`, whole and not quantised.

    Raises:
        ModelError: the directory is missing.
        VerificationError: the files differ from those registered.
    """
    model = load(record.directory, name=record.model.name, placement=placement.beside)
    if model.ref != record.model:
        raise VerificationError(
            f"proxy {record.name!r}: {record.directory} has digest {model.ref.digest[:16]}…, "
            f"registered was {record.model.digest[:16]}…; restore the files, or register it under another name"
        )
    return model


def intact(record: ProxyRecord) -> bool:
    """Return whether the files that determine a proxy's output are those registered; they are read anew."""
    place = record.directory
    return place.is_dir() and ModelRef.of_directory(record.name, place, fresh=True) == record.model
