"""What the ledger refuses: spends that do not compose, or that the budget does not cover."""

from client.ledger.entries import History
from transfer.errors import BudgetRefusedError
from transfer.privacy import Budget, Spend, epsilon


def require_one_unit(history: History, data_sets: list[str]) -> None:
    """Returns if nothing, or the same unit, was spent for on all of these data sets.

    Raises:
        BudgetRefusedError: names those of different units.
    """
    units = {unit: name for name in data_sets if (unit := history.unit(name))}
    if len(units) > 1:
        raise BudgetRefusedError(
            f"these records belong to {units['record']}, spent for one record, and to {units['user']}, spent for "
            "one user: the two do not compose; take those of one of them out of the file"
        )


def require_covered(history: History, data_set: str, spend: Spend, budget: Budget) -> None:
    """Returns if `budget` covers `spend` on a data set after all earlier ones.

    Raises:
        BudgetRefusedError: it does not, or they are for another unit.
    """
    spent, unit = list(history.spends(data_set)), history.unit(data_set)
    if unit not in (None, spend.unit):
        raise BudgetRefusedError(
            f"{data_set} was spent for one {unit} so far, this round is for one {spend.unit}: the two do not "
            f"compose; set declared_{unit}s in [data] again, or use data of which nothing was spent yet"
        )
    if not budget.covers([*spent, spend]):
        now, then = epsilon(spent, budget.delta), epsilon([*spent, spend], budget.delta)
        raise BudgetRefusedError(
            f"{data_set} has spent ε {now:.4g}, this round would make it {then:.4g}, "
            f"the budget is {budget.epsilon:.4g} at δ {budget.delta:g}"
        )
