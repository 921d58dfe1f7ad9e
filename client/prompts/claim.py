"""The part of a prompt's signed statement that a recipient relies on: its purpose and its worst-case privacy."""

from dataclasses import dataclass

from transfer.errors import VerificationError
from transfer.model_ref import LmHead, ModelRef
from transfer.privacy import Unit
from transfer.protocol.prompt_statement import PrivacyV1, PromptStatement
from transfer.protocol.signing import Statement
from transfer.tasks import Task


@dataclass(frozen=True, slots=True)
class Privacy:
    """The claimed privacy: unit, adjacency, and (ε, δ) of the data owner who spent most.

    Attributes:
        epsilon: largest ε of all clients; ∞ claims nothing.
        not_private: what the claim does not cover.
    """

    unit: Unit
    adjacency: str
    epsilon: float
    delta: float
    accountant: str
    not_private: tuple[str, ...]

    @staticmethod
    def of(stated: PrivacyV1) -> "Privacy":
        """Take the largest ε and δ of the overall claim and of each client's claim."""
        return Privacy(
            unit=stated.unit,
            adjacency=stated.adjacency,
            epsilon=max([stated.epsilon, *(client.epsilon for client in stated.clients)]),
            delta=max([stated.delta, *(client.delta for client in stated.clients)]),
            accountant=stated.accountant,
            not_private=stated.not_private,
        )

    def require(self, max_epsilon: float | None, max_delta: float | None) -> None:
        """Refuse a claim above what the recipient accepts; None accepts any value.

        Raises:
            VerificationError: the largest ε or δ is above the limit.
        """
        for symbol, value, most in (("ε", self.epsilon, max_epsilon), ("δ", self.delta, max_delta)):
            if most is not None and not value <= most:
                raise VerificationError(f"the prompt claims {symbol} {value:g}, accepted is at most {most:g}")


@dataclass(frozen=True, slots=True)
class Claim:
    """The content of a verified statement about one prompt version; `statement` is the whole of it."""

    prompt: str
    version: int
    task: Task
    target: ModelRef
    proxy: ModelRef
    lm_head: LmHead
    privacy: Privacy
    statement: PromptStatement

    @staticmethod
    def of(statement: Statement) -> "Claim":
        """Read the predicate of a verified statement.

        Raises:
            VerificationError: a field is missing or has an impossible value.
        """
        stated = PromptStatement.from_predicate(statement.predicate)
        return Claim(
            prompt=stated.prompt,
            version=stated.version,
            task=stated.task.task,
            target=stated.target.ref,
            proxy=stated.proxy.ref,
            lm_head=stated.lm_head,
            privacy=Privacy.of(stated.privacy),
            statement=stated,
        )

    def require(self, prompt: str, version: int) -> None:
        """Refuse a statement about another prompt or version.

        Raises:
            VerificationError: it is about another prompt or version.
        """
        if (self.prompt, self.version) != (prompt, version):
            raise VerificationError(
                f"version {version} of prompt {prompt!r} was asked for, "
                f"the statement is about version {self.version} of {self.prompt!r}"
            )
