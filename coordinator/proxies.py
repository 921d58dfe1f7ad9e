"""Proxies at the coordinator: made from the target, signed, offered, and loaded just as registered."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from coordinator.cohort import Identity
from coordinator.records import ProxyRecord
from coordinator.store import Store
from transfer.distillation import DistilSettings, distil
from transfer.errors import AlreadyExistsError, UsageError, VerificationError
from transfer.files import FileRef
from transfer.models import LanguageModel, load
from transfer.names import checked
from transfer.prompt import ModelRef
from transfer.proxy import Proxy, spread
from transfer.signing import PROXY_PREDICATE, STATEMENT_TYPE, sign, statement


def free_place(store: Store, directory: Path, name: str) -> Path:
    """Where a new proxy of that name goes.

    Raises:
        UsageError: not a possible name.
        AlreadyExistsError: a proxy or a directory of that name is there.
    """
    place = directory / checked("proxy", name)
    if place.exists() or any(record.name == name for record in store.proxies()):
        raise AlreadyExistsError(f"proxy {name!r} exists already ({place}): choose another name")
    return place


def make(
    target: LanguageModel,
    layers: int | Sequence[int],
    texts: Sequence[str],
    settings: DistilSettings,
    place: Path,
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
) -> None:
    """Distil a proxy of `target` on public `texts`; `place` appears with it, whole or not at all.

    `layers` says how many layers to keep, or their indices.

    Raises:
        ModelError: too little text, or no such layers.
        UsageError: the directory cannot be written.
    """
    kept = spread(layers, target.model.config.num_hidden_layers) if isinstance(layers, int) else layers
    made = distil(target, kept, texts, settings, lambda step, _kl: on_step(step, settings.steps))
    with _appearing(place) as draft:
        made.save(draft)


def copy(source: Path, place: Path) -> None:
    """Copy the proxy directory `source`; `place` appears with it, whole or not at all.

    Raises:
        ModelError: `source` is no proxy.
        UsageError: the directory cannot be written.
    """
    Proxy.load(source)
    with _appearing(place) as draft:
        shutil.copytree(source, draft, dirs_exist_ok=True)


@contextmanager
def _appearing(place: Path) -> Iterator[Path]:
    """A draft directory that becomes `place` if the block ends well and vanishes if not."""
    draft = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        yield draft
        draft.rename(place)
    except OSError as error:
        raise UsageError(f"cannot write {place}: {error.strerror}") from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def register(store: Store, identity: Identity, place: Path) -> Proxy:
    """Sign the proxy that lies at `place` and offer it to clients under the directory's name.

    Raises:
        ModelError: no proxy lies there.
        AlreadyExistsError: a proxy of that name is on offer.
    """
    proxy = Proxy.load(place, name=place.name)
    files = tuple(FileRef.of_file(path) for path in sorted(place.iterdir()) if path.is_file())
    told = {
        "proxy": {"name": place.name, "digest": proxy.model.ref.digest},
        "parent": {"name": proxy.parent.name, "digest": proxy.parent.digest},
        "layers": list(proxy.layers),
        "steps": proxy.steps,
        "held_out_kl": proxy.held_out_kl,
        "held_out_perplexity": proxy.held_out_perplexity,
        "target_perplexity": proxy.target_perplexity,
    }
    content = statement({file.path: file.digest for file in files}, PROXY_PREDICATE, told)
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


def load_proxy(record: ProxyRecord) -> LanguageModel:
    """The model of a registered proxy.

    Raises:
        ModelError: it is gone.
        VerificationError: its files are not those that were registered.
    """
    model = load(record.directory, name=record.model.name)
    if model.ref != record.model:
        raise VerificationError(
            f"proxy {record.name!r}: {record.directory} has digest {model.ref.digest[:16]}…, "
            f"registered was {record.model.digest[:16]}…"
        )
    return model


def intact(record: ProxyRecord) -> bool:
    """True if the files that decide what a proxy computes are those that were registered."""
    return record.directory.is_dir() and ModelRef.of_directory(record.name, record.directory) == record.model
