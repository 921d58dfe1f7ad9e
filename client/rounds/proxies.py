"""The proxies of a client: one Hugging Face directory each, identified by digest, loaded once."""

from collections.abc import Callable, Iterator
from pathlib import Path

from transfer.errors import ModelError, NotFoundError, UsageError, VerificationError
from transfer.families.model_directory import directories_in
from transfer.model_ref import ModelRef
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.names import checked
from transfer.placement.settings import HERE, Placement

Fetch = Callable[[str, Path], object]
"""Fetches the coordinator's proxy of a name to a new directory, which appears verified and whole."""


class Proxies:
    """The proxies below one directory.

    Args:
        directory: has one directory per proxy; made when a proxy is fetched.
        fetch: fetches a missing proxy from the coordinator; None to fetch none.
        placement: where a loaded proxy is, and in what numbers it computes.
    """

    def __init__(self, directory: Path, fetch: Fetch | None = None, placement: Placement = HERE) -> None:
        self._directory = directory
        self._fetch = fetch
        self._placement = placement
        self._loaded: LanguageModel | None = None

    def directories(self) -> list[Path]:
        """Return the directories that contain a model, by name."""
        return directories_in(self._directory)

    def model(self, ref: ModelRef) -> LanguageModel:
        """Return the exact model `ref`, from memory, from disk, or fetched. Only the last one stays in memory.

        Raises:
            NotFoundError: it is not here and may not be fetched, or the coordinator has no proxy of that name.
            VerificationError: the model fetched or on disk has another digest.
            ModelError: it cannot be loaded.
        """
        if self._loaded is None or self._loaded.ref.digest != ref.digest:
            self._loaded = None  # two models need not fit into memory
            self._loaded = self._load(ref)
        return self._loaded

    def _load(self, ref: ModelRef) -> LanguageModel:
        model = load(self._find(ref) or self._fetched(ref), name=ref.name, placement=self._placement)
        if model.ref.digest != ref.digest:
            raise VerificationError(
                f"proxy {ref.name!r} has digest {model.ref.digest[:16]}…, asked for {ref.digest[:16]}…"
            )
        return model

    def _find(self, ref: ModelRef) -> Path | None:
        def other_name(path: Path) -> bool:
            return path.name != ref.name

        for path in sorted(self.directories(), key=other_name):
            if ModelRef.of_directory(ref.name, path).digest == ref.digest:
                return path
        return None

    def _fetched(self, ref: ModelRef) -> Path:
        if self._fetch is None:
            raise NotFoundError(
                f"proxy {ref.name!r} with digest {ref.digest[:16]}… is not in {self._directory}"
            )
        into = next(path for path in self._places(ref) if not path.exists())  # raises if every place is taken
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fetch(ref.name, into)
        return into

    def _places(self, ref: ModelRef) -> Iterator[Path]:
        """Yield possible directories for a proxy; an earlier proxy of the same name keeps its own."""
        try:
            name = checked(
                "proxy", ref.name
            )  # the name came over the network: it must not leave the directory
        except UsageError as error:
            raise ModelError(str(error)) from error
        yield self._directory / name
        for length in (12, 64):
            yield self._directory / f"{name}-{ref.digest[:length]}"
        raise ModelError(f"{self._directory}: every place for proxy {name!r} is taken: remove an old one")
