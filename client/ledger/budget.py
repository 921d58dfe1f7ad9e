"""Refusals of the ledger: spends that do not compose, or that the budget does not cover."""

from client.ledger.entries import History
from transfer.errors import BudgetRefusedError
from transfer.privacy import Budget, Spend, epsilon


def require_one_unit(history: History, data_sets: list[str]) -> None:
    """Refuse to merge data sets whose spends are for different units; data sets without spends fit any.

    Raises:
        BudgetRefusedError: names the data sets of different units.
    """
    units = {unit: name for name in data_sets if (unit := history.unit(name))}
    if len(units) > 1:
        raise BudgetRefusedError(
            f"these records belong to {units['record']}, spent for one record, and to {units['user']}, spent for "
            "one user: the two do not compose; remove the records of one of them from the file"
        )


def require_covered(history: History, data_set: str, spend: Spend, budget: Budget) -> None:
    """Refuse a spend that `budget` does not cover together with all earlier spends on the data set.

    Guarantee: on return, ε of all earlier spends and of `spend` at the budget's δ is at most the budget's ε.
    Edge cases: σ = 0 has ε = ∞, which only an infinite budget covers.

    Raises:
        BudgetRefusedError: the budget does not cover it, or the earlier spends are for another unit.
    """
    spent, unit = list(history.spends(data_set)), history.unit(data_set)
    if unit not in (None, spend.unit):
        raise BudgetRefusedError(
            f"{data_set} was spent for one {unit} so far, this round is for one {spend.unit}: the two do not "
            f"compose; set declared_{unit}s in [data] again, or use data on which nothing was spent yet"
        )
    if not budget.covers([*spent, spend]):
        now, then = epsilon(spent, budget.delta), epsilon([*spent, spend], budget.delta)
        raise BudgetRefusedError(
            f"{data_set} has spent ε {now:.4g}, this round would make it {then:.4g}, "
            f"the budget is {budget.epsilon:.4g} at δ {budget.delta:g}"
        )
