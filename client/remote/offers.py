"""What a coordinator offers: unverified until its statement is verified."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from transfer import names
from transfer.errors import VerificationError
from transfer.files.atomic import FileRef
from transfer.model_ref import ModelRef
from transfer.protocol.signing import Envelope, Statement
from transfer.protocol.statement import ProxyStatement


@dataclass(frozen=True, slots=True)
class PromptOffer:
    """A published prompt version."""

    prompt: str
    version: int
    create_time: datetime
    statement: Envelope
    files: tuple[FileRef, ...]

    @property
    def name(self) -> str:
        """Resource name."""
        return names.prompt_version(self.prompt, self.version)


@dataclass(frozen=True, slots=True)
class ProxyOffer:
    """A proxy; `layers` are those of `parent` that it kept."""

    name: str
    model: ModelRef
    parent: ModelRef
    layers: tuple[int, ...]
    create_time: datetime
    statement: Envelope
    files: tuple[FileRef, ...]


def require_same_files(files: Sequence[FileRef], statement: Statement) -> None:
    """Compare the files offered with the files signed, before any is downloaded.

    Raises:
        VerificationError: a file is unsigned, missing, or has another digest.
    """
    if {file.path: file.digest for file in files} != dict(statement.digests):
        raise VerificationError("the files offered are not the ones in the signed statement")


def stated_proxy(statement: Statement, name: str) -> ModelRef:
    """Return the model that the statement of proxy `name` is about.

    Raises:
        VerificationError: the statement is about another proxy, or cannot be read.
    """
    try:
        model = ProxyStatement.from_predicate(statement.predicate).proxy.ref
    except VerificationError as error:
        raise VerificationError(f"proxy {name!r}: {error}") from error
    if model.name != name:
        raise VerificationError(f"the statement offered for proxy {name!r} is about {model.name!r}")
    return model
