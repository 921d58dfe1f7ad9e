"""The changes are those that a test should notice, and each can be told from the others."""

import ast

import pytest

from tests.mutation import tests_of
from tests.mutation.__main__ import ROOT, explained
from tests.mutation.mutants import mutants

SOURCE = '''
"""Words."""
LIMIT: int = 3


def granted(spent: float, budget: float = 1.0) -> bool:
    """Words."""
    logger.info("asked")
    if not spent <= budget:
        raise ValueError(f"{spent} is too much")
    remember(spent, now=True)
    return sum(spent) + 1 < LIMIT and any(known[:2])


def again():
    remember(spent, now=True)
'''


def test_every_kind_of_change_is_made_once_and_words_are_left_alone() -> None:
    made = [(each.line, each.now) for each in mutants(SOURCE)]
    assert made == [
        (3, "LIMIT: int = (4)"),
        (6, "def granted(spent: float, budget: float = (2.0)) -> bool:"),
        (9, "if (spent <= budget):"),
        (9, "if not (spent < budget):"),
        (9, "if not (spent > budget):"),
        (10, "pass"),
        (11, "pass"),
        (11, "(remember(spent)) "[:-1]),
        (11, "remember(spent, now=(False))"),
        (12, "return None"),
        (12, "return (sum(spent) + 1 < LIMIT or any(known[:2]))"),
        (12, "return sum(spent) + 1 < LIMIT and (all(known[:2]))"),
        (12, "return sum(spent) + 1 < LIMIT and any((known[2:]))"),
        (12, "return sum(spent) + 1 < LIMIT and any(known[:(3)])"),
        (12, "return (sum(spent) + 1 <= LIMIT) and any(known[:2])"),
        (12, "return (sum(spent) + 1 >= LIMIT) and any(known[:2])"),
        (12, "return (sum(spent) - 1) < LIMIT and any(known[:2])"),
        (12, "return sum(spent) + (2) < LIMIT and any(known[:2])"),
        (16, "pass (place 2)"),
        (16, "(remember(spent)) (place 2)"),
        (16, "remember(spent, now=(False)) (place 2)"),
    ]


def test_a_mutant_is_the_module_with_one_change() -> None:
    source = (ROOT / "client" / "ledger" / "entries.py").read_text(encoding="utf-8")
    lines = source.splitlines()
    for each in mutants(source):
        ast.parse(each.source)
        assert each.source.splitlines()[: each.line - 1] == lines[: each.line - 1]
        assert each.source != source


@pytest.mark.parametrize("module", tests_of.MODULES)
def test_what_is_explained_is_a_change_of_the_module_as_it_is(module: str) -> None:
    source = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    assert explained(module) <= {each.key for each in mutants(source)}
