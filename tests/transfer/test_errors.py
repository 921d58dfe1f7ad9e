import inspect
import re

import pytest

from transfer import errors
from transfer.errors import PromptferryError

CLASSES = {
    cls.__name__: cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if cls.__module__ == errors.__name__
}


def drawn_tree():
    """Name → (parent, exit status) as the module's docstring draws them; a blank status is the parent's."""
    above, tree = {}, {}
    for line in errors.__doc__.splitlines():
        found = re.match(r"(?P<stem>[ │├└─]*)(?P<name>\w+Error) +(?P<status>\d)?", line)
        if found:
            depth = len(found["stem"])
            parent = max((seen for seen in above if seen < depth), default=None)
            parent = None if parent is None else above[parent]
            status = int(found["status"]) if found["status"] else tree[parent][1]
            tree[found["name"]] = (parent, status)
            above = {seen: name for seen, name in above.items() if seen < depth} | {depth: found["name"]}
    return tree


def test_the_drawn_tree_is_the_tree_of_classes():
    real = {
        name: (None if cls is PromptferryError else cls.__base__.__name__, cls.exit_status)
        for name, cls in CLASSES.items()
    }
    assert drawn_tree() == real


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_is_caught_as_the_root_and_keeps_its_message(name):
    with pytest.raises(PromptferryError) as caught:
        raise CLASSES[name]("file.toml: key 'x' is missing")
    assert str(caught.value) == "file.toml: key 'x' is missing"


def test_usage_errors_of_every_kind_exit_with_2():
    kinds = errors.UsageError.__subclasses__()
    assert {kind.__name__ for kind in kinds} == {"ConfigError", "DataError", "TaskError", "ModelError"}
    assert {kind.exit_status for kind in kinds} == {2}


@pytest.mark.parametrize(
    ("cls", "status", "symbol"),
    [
        (errors.PromptferryError, 1, "promptferry"),
        (errors.UsageError, 2, "usage"),
        (errors.DeadlineError, 3, "deadline"),
        (errors.PolicyRefusedError, 4, "policy_refused"),
        (errors.BudgetRefusedError, 5, "budget_refused"),
        (errors.VerificationError, 6, "verification"),
        (errors.AlreadyExistsError, 1, "already_exists"),
    ],
)
def test_scripts_can_rely_on_status_and_symbol(cls, status, symbol):
    error = cls("reason")
    assert (error.exit_status, error.symbol) == (status, symbol)


def test_no_two_errors_share_a_symbol():
    assert len({cls("").symbol for cls in CLASSES.values()}) == len(CLASSES)
