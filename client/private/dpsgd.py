"""DP-SGD on a soft prompt: private records in, noised prompt out.

Unit of privacy: one record, or one user with all records of theirs (`spend.unit`); neighbours differ by adding or
removing it. The result of `tune` is the output of `spend.steps` draws of the Poisson-subsampled Gaussian mechanism
and nothing else: starting point, optimizer, schedule, denominator and number of steps come from the request and from
declared, public numbers.

A user's share of a step is the mean of the gradients of their records, clipped as a whole: however many there are,
adding the user moves the sum by at most C.

Letters: B records of a physical batch, U users of a step, P prompt tokens (and the rows of a head where the task is
read by one: one clip and one noise cover both), H hidden size.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from opacus.optimizers import DPOptimizer
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from client.private.noise import GRID_BITS, Randomness, clip_to_grid
from client.private.records import PrivateRecords
from transfer.errors import PromptferryError
from transfer.models.language_model import LanguageModel
from transfer.models.passes import Passes
from transfer.models.per_record_gradients import LabelledLines, per_record_gradients
from transfer.prompt import SoftPrompt
from transfer.protocol.rounds import Tuning
from transfer.protocol.tuning_table import Optimizer
from transfer.subspace import Subspace
from transfer.tasks import Task
from transfer.tokens.batches import FORWARD_TOKENS

OPTIMIZERS: Mapping[Optimizer, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}


class NoisyOptimizer(DPOptimizer):  # type: ignore[misc]  # opacus carries no types
    """Opacus' optimiser around Adam or SGD with exact clipping and noise nobody can predict.

    Clipped gradients, one a unit, are summed as whole steps of the grid g = σ·C/2**GRID_BITS and the noise is
    drawn in the same steps, so that floating point neither leaks nor breaks the sensitivity bound C. Without
    noise (σ = 0) there is nothing to protect: plain sums, no clipping. Which of the two steps along the noised sum
    is post-processing: ε is the same.
    """

    def __init__(
        self, vectors: nn.Parameter, tuning: Tuning, expected_units: float, randomness: Randomness
    ) -> None:
        super().__init__(
            OPTIMIZERS[tuning.optimizer]([vectors], lr=tuning.learning_rate),
            noise_multiplier=tuning.spend.noise_multiplier,
            max_grad_norm=tuning.clip_norm,
            expected_batch_size=expected_units,
        )
        self._randomness = randomness
        self._private = tuning.spend.noise_multiplier > 0  # never by the grid: a product may underflow to 0
        self._grid = tuning.spend.noise_multiplier * tuning.clip_norm / 2**GRID_BITS

    def clip_and_accumulate(self) -> None:
        """Add the clipped sum of the physical batch to the logical batch's."""
        for parameter in self.params:
            rows = parameter.grad_sample
            total = (
                clip_to_grid(rows, self.max_grad_norm, self._grid) if self._private else rows.double().sum(0)
            )
            parameter.summed_grad = total if parameter.summed_grad is None else parameter.summed_grad + total

    def add_noise(self) -> None:
        """Turn the exact sum into the released gradient sum."""
        for parameter in self.params:
            total = parameter.summed_grad
            if self._private:
                noise = torch.from_numpy(self._randomness.integers(tuple(total.shape)))
                total = (total + noise).double() * self._grid
            parameter.grad = total.to(parameter.dtype)


def tune(
    model: LanguageModel,
    records: PrivateRecords,
    task: Task,
    start: SoftPrompt,
    tuning: Tuning,
    *,
    declared_units: int,
    randomness: Randomness,
    subspace: Subspace | None = None,
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
) -> SoftPrompt:
    """Tune `start` on private records with exactly `tuning.spend.steps` noisy steps.

    The step size falls linearly to 0: late noise counts less, and what is left of the last lot with it.

    Args:
        model: the proxy the prompt belongs to.
        records: the private text.
        task: how a text becomes a question.
        start: prompt to start from.
        tuning: steps, sampling, noise, clipping and step size.
        declared_units: public number N of units; q·N is the denominator whatever the file holds.
        randomness: inclusions and noise; `NoiseSource()` outside tests.
        subspace: tune coordinates in it, and clip and noise nothing else; None for the whole prompt.
        on_step: called with (steps done, steps in all) after each step.

    Raises:
        TaskError: the task does not fit the model or its tokeniser.
        DataError: the unit is the user and the records name none.
        PromptferryError: tuning diverged to non-finite values.
    """
    encoder = model.encoder(task)
    lines = encoder.encode(records.texts, records.answers)
    spend = tuning.spend
    passes = Passes.expecting(spend.sample_rate * declared_units, task.max_tokens, model.width)
    data = LabelledLines(lines, torch.tensor(records.labels), encoder.words, passes)
    tuned = Tuned(start.vectors, subspace)
    users = records.by_user() if spend.unit == "user" else None
    units = len(lines if users is None else users)
    optimizer = NoisyOptimizer(tuned.parameter, tuning, spend.sample_rate * declared_units, randomness)
    schedule = LambdaLR(optimizer.original_optimizer, lambda step: 1 - step / spend.steps)
    for step in range(spend.steps):
        included = randomness.bernoulli(units, spend.sample_rate).nonzero()[0].tolist()
        if users is None:
            noisy_step(model, data, included, tuned, optimizer)
        else:
            noisy_step_of_users(model, data, [users[index] for index in included], tuned, optimizer)
        schedule.step()
        on_step(step + 1, spend.steps)
    vectors = tuned.vectors()
    if not torch.isfinite(vectors).all():
        raise PromptferryError("tuning diverged; ask for a lower learning rate")
    return SoftPrompt(vectors, start.model)


class Tuned:
    """A prompt under way: [P, H] numbers, or D coordinates of how far it is from its start in a subspace.

    Attributes:
        parameter: what is clipped, noised and stepped.
    """

    def __init__(self, start: torch.Tensor, subspace: Subspace | None = None) -> None:
        self._start, self._subspace = start.clone(), subspace
        self.parameter = nn.Parameter(
            self._start.clone() if subspace is None else start.new_zeros(subspace.dimensions)
        )

    def vectors(self) -> torch.Tensor:
        """The prompt [P, H] as it is now, detached."""
        now = self.parameter.detach().clone()
        return now if self._subspace is None else self._start + self._subspace.vectors(now)

    def gradients(self, per_record: torch.Tensor) -> torch.Tensor:
        """Per-record gradients [B, P, H] with respect to `parameter`: the same, or [B, D]."""
        return per_record if self._subspace is None else self._subspace.coordinates(per_record)


def noisy_step(
    model: LanguageModel,
    data: LabelledLines,
    included: Sequence[int],
    tuned: Tuned,
    optimizer: NoisyOptimizer,
    forward_tokens: int = FORWARD_TOKENS,
) -> None:
    """One logical step over the `included` records in physical batches of `forward_tokens`.

    No record included is a step like any other: a zero sum, noise added, and accounted for.
    """
    vectors = tuned.vectors()
    groups = list(data.batches(included, vectors.shape[0], forward_tokens)) or [[]]
    for group in groups:
        gradients = tuned.gradients(per_record_gradients(model, data, group, vectors))
        tuned.parameter.grad_sample = gradients  # type: ignore[attr-defined]
        optimizer.signal_skip_step(do_skip=group is not groups[-1])
        optimizer.step()
        optimizer.zero_grad()


class UserMeans:
    """Mean gradient of each user's records, gathered over physical batches in double precision.

    A user's records come in the order of `Passes.groups`, which no other user's records change, so the mean
    depends on nothing but their gradients, bit for bit.

    Args:
        users: indices of each user's records.
        like: tensor of a gradient's shape and device.
    """

    def __init__(self, users: Sequence[Sequence[int]], like: torch.Tensor) -> None:
        self._users = users
        self._rows = {record: row for row, records in enumerate(users) for record in records}
        self._sums = like.new_zeros((len(users), *like.shape), dtype=torch.float64)

    @property
    def records(self) -> list[int]:
        """Indices of all users' records."""
        return list(self._rows)

    def add(self, group: Sequence[int], gradients: torch.Tensor) -> None:
        """Take in the gradients [B, ...] of the records `group`."""
        rows = torch.tensor([self._rows[record] for record in group])
        self._sums.index_add_(0, rows.to(self._sums.device), gradients.double())

    def means(self) -> torch.Tensor:
        """[U, ...] float64, when every record was taken in."""
        counts = self._sums.new_tensor([len(records) for records in self._users])
        return self._sums / counts.view(-1, *[1] * (self._sums.dim() - 1))


def noisy_step_of_users(
    model: LanguageModel,
    data: LabelledLines,
    users: Sequence[Sequence[int]],
    tuned: Tuned,
    optimizer: NoisyOptimizer,
    forward_tokens: int = FORWARD_TOKENS,
) -> None:
    """One logical step over the sampled `users`, given by the indices of their records.

    A user's records may be spread over several physical batches, so nothing is clipped before all are through. No
    user sampled is a step like any other.
    """
    vectors = tuned.vectors()
    means = UserMeans(users, tuned.parameter.detach())
    for group in data.batches(means.records, vectors.shape[0], forward_tokens):
        means.add(group, tuned.gradients(per_record_gradients(model, data, group, vectors)))
    tuned.parameter.grad_sample = means.means()  # type: ignore[attr-defined]
    optimizer.step()
    optimizer.zero_grad()
