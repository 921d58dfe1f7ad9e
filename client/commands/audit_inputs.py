"""What `promptferry-client audit` reads and refuses before it loads PyTorch."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transfer import hints
from transfer.errors import AlreadyExistsError, ModelError, UsageError
from transfer.families.model_directory import directories_in
from transfer.files.public_text import read_texts
from transfer.privacy import Budget
from transfer.tasks import Task

if TYPE_CHECKING:
    from client.home.settings import ClientConfig


@dataclass(frozen=True, slots=True)
class MembershipInputs:
    """Inputs of the membership audit.

    Attributes:
        task: the task to tune for.
        proxy: directory of the proxy to tune on.
        texts: public texts to find few directions in; none for the whole prompt.
        budget: most that a shadow prompt may cost.
    """

    task: Task
    proxy: Path
    texts: list[str]
    budget: Budget

    @staticmethod
    def read(
        settings: "ClientConfig",
        task: Task | None,
        proxy: str | None,
        public_text: Path | None,
        epsilon: float | None,
    ) -> "MembershipInputs":
        """Check the options of a command, and read the public text.

        Raises:
            UsageError: there is no task, or ε is impossible.
            ModelError: no proxy has that name, or several could be meant.
            DataError: the private data or the public text is not readable.
        """
        if task is None:
            raise UsageError("the membership audit needs --task TASK.toml, to read your records")
        allowed = settings.limits().budget
        budget = allowed if epsilon is None else Budget(epsilon, allowed.delta)
        texts = [] if public_text is None else read_texts(public_text)
        settings.data.require_readable()
        return MembershipInputs(task, _proxy(settings, proxy), texts, budget)


def least_noise(settings: "ClientConfig") -> float:
    """Return the least noise multiplier that the policy allows.

    Raises:
        UsageError: the policy demands none.
    """
    noise = settings.policy.min_noise_multiplier
    if not noise:
        raise UsageError(
            "--policy-noise: [policy] min_noise_multiplier in client.toml is 0, must be above 0: set a least noise"
        )
    return noise


def require_free(page: Path | None) -> None:
    """Refuse a page that cannot be written, before the audit takes minutes.

    Raises:
        AlreadyExistsError: the page exists.
        UsageError: its directory does not.
    """
    if page is not None and page.exists():
        raise AlreadyExistsError(f"{page} exists already: it is never overwritten")
    if page is not None and not page.parent.is_dir():
        raise UsageError(f"--page {page}: {page.parent} is not a directory")


def _proxy(settings: "ClientConfig", name: str | None) -> Path:
    """Return the directory of the proxy of that name, or of the only proxy."""
    here = {path.name: path for path in directories_in(settings.proxies_directory)}
    if name is None and len(here) == 1:
        return next(iter(here.values()))
    if name not in here:
        known = ", ".join(here) or f"none; {hints.client('proxy fetch')} or `distil` makes one"
        raise ModelError(f"--proxy {name or 'is needed'}: proxies here: {known}")
    return here[name]
