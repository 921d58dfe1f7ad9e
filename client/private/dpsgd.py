"""DP-SGD on a soft prompt: private records in, noised prompt out.

The unit of privacy is one record, or one user with all of their records (`spend.unit`). Neighbouring data sets differ
by one unit, added or removed. Starting point, optimizer, schedule, denominator and number of steps come from the
request and from declared, public numbers. A user's share of a step is the mean of the gradients of their records,
clipped as a whole: a user moves the sum by at most C, however many records they have.

Letters: B records of a physical batch, U users of a step, P prompt tokens, H hidden size, D dimensions of a subspace.
Where a head reads the task, its rows count as prompt tokens: one clip and one noise cover both.
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
from transfer.tokens.readout import goals

OPTIMIZERS: Mapping[Optimizer, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}


class NoisyOptimizer(DPOptimizer):  # type: ignore[misc]  # opacus carries no types
    """Opacus' optimiser around Adam or SGD, with exact clipping and unpredictable noise.

    The clipped gradients of all units are summed in whole steps of the grid g = σ·C/2**GRID_BITS. The noise is drawn
    in the same steps, so floating point neither leaks nor breaks the sensitivity bound C.

    Guarantee: with σ > 0, the inner optimiser sees nothing but the clipped sum plus Gaussian noise of standard
    deviation σ·C. The choice between Adam and SGD is post-processing and leaves ε unchanged.

    Edge cases: with σ = 0 gradients are neither clipped nor noised, and nothing is private. A logical step without
    units is noise alone. A unit with a NaN or an infinity in its gradient contributes 0 if σ > 0.
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
        self._private = tuning.spend.noise_multiplier > 0  # the grid is no sign: a product may underflow to 0
        self._grid = tuning.spend.noise_multiplier * tuning.clip_norm / 2**GRID_BITS

    def clip_and_accumulate(self) -> None:
        """Add the clipped sum of the physical batch to the sum of the logical batch."""
        for parameter in self.params:
            rows = parameter.grad_sample  # [B or U, P, H] or [B or U, D], one row per unit
            total = (  # [P, H] or [D]: integers on the grid, which add up exactly in any order
                clip_to_grid(rows, self.max_grad_norm, self._grid) if self._private else rows.double().sum(0)
            )
            parameter.summed_grad = total if parameter.summed_grad is None else parameter.summed_grad + total

    def add_noise(self) -> None:
        """Turn the exact sum into the released gradient sum."""
        for parameter in self.params:
            total = parameter.summed_grad  # [P, H] or [D]
            if self._private:
                noise = torch.from_numpy(self._randomness.integers(tuple(total.shape)))
                # Sum and noise are added as integers: only the released total becomes floating point.
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

    The step size falls linearly to 0, so the noise of late steps moves the result less.

    Guarantee:
        Given `start`, the prompt is (ε, δ)-differentially private for adding or removing one unit, with ε from
        `transfer.privacy.epsilon([tuning.spend], δ)`. This holds if `randomness` is a `NoiseSource` and if a record's
        gradient depends on no other record (`transfer.models.passes`). It covers the returned prompt, not running
        time, memory use, or whether tuning ends in an error.

    Edge cases:
        σ = 0: no clipping, no noise, no privacy (ε = ∞). clip_norm 0, ∞ or NaN, or q outside (0, 1]: `Tuning` and
        `Spend` cannot be made. q = 1: every unit is in every step. No unit sampled: the step is noise alone. A unit
        with a non-finite gradient: it contributes 0 if σ > 0. No records: `PrivateRecords` cannot be made.

    Args:
        model: the proxy the prompt belongs to.
        records: the private text.
        task: how a text becomes a question.
        start: prompt to start from.
        tuning: steps, sampling, noise, clipping and step size.
        declared_units: public number N ≥ 1 of units; q·N is the denominator, whatever the file contains.
        randomness: inclusions and noise; `NoiseSource()` outside tests.
        subspace: only coordinates in it are tuned, clipped and noised; None for the whole prompt.
        on_step: called with (steps done, steps in all) after each step.

    Raises:
        TaskError: the task does not fit the model or its tokeniser.
        DataError: the unit is the user, but the records name no users.
        PromptferryError: tuning diverged to non-finite values.
    """
    encoder = model.encoder(task)
    lines = encoder.encode(records.texts, records.answers)
    spend, expected = tuning.spend, tuning.spend.sample_rate * declared_units
    passes = Passes.expecting(expected, task.max_tokens, model.width, model.device)
    data = LabelledLines(lines, goals(records.labels, encoder.words), encoder.words, passes)
    tuned = Tuned(start.vectors, subspace)
    users = records.by_user() if spend.unit == "user" else None  # U lists of record indices
    units = len(lines if users is None else users)
    optimizer = NoisyOptimizer(tuned.parameter, tuning, expected, randomness)
    schedule = LambdaLR(optimizer.original_optimizer, lambda step: 1 - step / spend.steps)
    for step in range(spend.steps):
        # Poisson sampling: each unit is drawn on its own, so the size of a step varies and may be 0.
        included = randomness.bernoulli(units, spend.sample_rate).nonzero()[0].tolist()
        if users is None:
            noisy_step(model, data, included, tuned, optimizer)
        else:
            noisy_step_of_users(model, data, [users[index] for index in included], tuned, optimizer)
        schedule.step()
        on_step(step + 1, spend.steps)
    vectors = tuned.vectors()  # [P, H]
    if not torch.isfinite(vectors).all():
        raise PromptferryError("tuning diverged; ask for a lower learning rate")
    return SoftPrompt(vectors, start.model)


class Tuned:
    """A prompt during tuning: its numbers [P, H], or coordinates [D] of its distance from the start in a subspace.

    `parameter` is these numbers or coordinates: it alone is clipped, noised and stepped.
    """

    def __init__(self, start: torch.Tensor, subspace: Subspace | None = None) -> None:
        self._start, self._subspace = start.clone(), subspace
        self.parameter = nn.Parameter(
            self._start.clone() if subspace is None else start.new_zeros(subspace.dimensions)
        )

    def vectors(self) -> torch.Tensor:
        """Return the current prompt [P, H], detached."""
        now = self.parameter.detach().clone()  # [P, H] or [D]
        return now if self._subspace is None else self._start + self._subspace.vectors(now)

    def gradients(self, per_record: torch.Tensor) -> torch.Tensor:
        """Map per-record gradients [B, P, H] to those of `parameter`: unchanged, or [B, D]."""
        return per_record if self._subspace is None else self._subspace.coordinates(per_record)


def noisy_step(
    model: LanguageModel,
    data: LabelledLines,
    included: Sequence[int],
    tuned: Tuned,
    optimizer: NoisyOptimizer,
    forward_tokens: int | None = None,
) -> None:
    """Make one logical step over the `included` records, in physical batches of `forward_tokens`.

    Guarantee: the step draws noise exactly once, however many physical batches it needs.
    Edge cases: with no record included, the sum is zero; noise is added and the step counts as any other.
    """
    vectors = tuned.vectors()  # [P, H]
    groups = list(data.batches(included, vectors.shape[0], forward_tokens)) or [[]]
    for group in groups:
        gradients = tuned.gradients(per_record_gradients(model, data, group, vectors))  # [B, P, H] or [B, D]
        tuned.parameter.grad_sample = gradients  # type: ignore[attr-defined]
        # Every batch is clipped and summed, but only the last one adds noise and moves the prompt.
        optimizer.signal_skip_step(do_skip=group is not groups[-1])
        optimizer.step()
        optimizer.zero_grad()


class UserMeans:
    """Mean gradient of each user's records, summed over physical batches in double precision.

    Guarantee: a user's mean depends on their own records alone, bit for bit. `Passes.groups` orders a user's records,
    and no other user's records change that order.

    Args:
        users: indices of each user's records; at least one for each user.
        like: tensor of a gradient's shape and device.
    """

    def __init__(self, users: Sequence[Sequence[int]], like: torch.Tensor) -> None:
        self._users = users
        self._rows = {record: row for row, records in enumerate(users) for record in records}
        self._sums = like.new_zeros((len(users), *like.shape), dtype=torch.float64)  # [U, P, H] or [U, D]

    @property
    def records(self) -> list[int]:
        """Indices of all users' records."""
        return list(self._rows)

    def add(self, group: Sequence[int], gradients: torch.Tensor) -> None:
        """Add the gradients [B, ...] of the records `group`."""
        rows = torch.tensor([self._rows[record] for record in group])  # [B], the user of each record
        self._sums.index_add_(0, rows.to(self._sums.device), gradients.double())

    def means(self) -> torch.Tensor:
        """Return the means, [U, ...] float64. Call it after every record was added."""
        counts = self._sums.new_tensor([len(records) for records in self._users])  # [U]
        return self._sums / counts.view(-1, *[1] * (self._sums.dim() - 1))


def noisy_step_of_users(
    model: LanguageModel,
    data: LabelledLines,
    users: Sequence[Sequence[int]],
    tuned: Tuned,
    optimizer: NoisyOptimizer,
    forward_tokens: int | None = None,
) -> None:
    """Make one logical step over the sampled `users`, given by the indices of their records.

    Guarantee: noise is drawn exactly once, and each user is clipped once, as the mean of all their records. Nothing
    is clipped before every record went through, since physical batches may split a user's records.
    Edge cases: as in `noisy_step`.
    """
    vectors = tuned.vectors()  # [P, H]
    means = UserMeans(users, tuned.parameter.detach())
    for group in data.batches(means.records, vectors.shape[0], forward_tokens):
        means.add(group, tuned.gradients(per_record_gradients(model, data, group, vectors)))
    tuned.parameter.grad_sample = means.means()  # type: ignore[attr-defined]  # [U, P, H] or [U, D]
    optimizer.step()
    optimizer.zero_grad()
