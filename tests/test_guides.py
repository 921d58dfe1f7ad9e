"""The guides: short where a newcomer enters, true where they name a command, a table, a state or a file."""

import re
import sqlite3
import tomllib
from contextlib import closing

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import create_engine, inspect

from client.ledger.entries import Kind
from client.ledger.file import LedgerFile
from client.ledger.place import LedgerPlace
from coordinator.store.records import CampaignState, ClientState, RoundState
from coordinator.store.states import FOLLOWS
from coordinator.store.store import Store
from tests.guides import GUIDES, ROOT, WALK, blocks, faults
from transfer.tasks import Task

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
README = ROOT / "README.md"
STORE = ROOT / "coordinator" / "DATA_MODEL.md"
LEDGER = ROOT / "client" / "DATA_MODEL.md"
NAME = re.compile(r"`([a-z_]+)`")


def anchors(guide):
    """What links to headings of a guide are called."""
    headings = re.findall(r"^#+ (.+)$", guide.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named(guide):
    """Columns by table, as the paragraphs that begin with a table's name have them."""
    text = guide.read_text(encoding="utf-8")
    found = re.findall(r"^\*\*(\w+)\*\*: (.+?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return {table: set(NAME.findall(said)) for table, said in found}


def listed(guide, head):
    """Rows of the table whose first column has this head, by that column."""
    table = re.search(
        rf"^\| {head} \|.*\n\|[-|]+\n((?:\|.*\n?)+)", guide.read_text(encoding="utf-8"), re.MULTILINE
    )
    rows = [row.strip("| \n").split(" | ") for row in table[1].splitlines()]
    return {NAME.fullmatch(row[0])[1]: row for row in rows}


def test_a_newcomer_reads_no_more_than_150_lines_and_the_picture_first():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert text.index("private text ──►") < text.index("| you are |") < text.index("make demo")
    assert re.search(r"^make demo .*\nmake test ", text, re.MULTILINE)


def test_every_command_in_a_guide_exists_and_every_command_is_in_a_guide():
    assert faults() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\n`promptferry-client ledger shew`\n", ":2: `promptferry-client ledger shew`: "),
        ("a\n\n`round show --wait`\n", ":3: `round show --wait`: "),
        ("`--epsilom 8`", ":1: `--epsilom 8`: "),
        ("<!-- run: a -->\n```sh\nx\npromptferry list \\\n  --al\n```\n", ":4: `promptferry list --al`: "),
        ("```sh\nmake demo\n```\n", ":2: a block of sh needs "),
    ],
    ids=["verb", "option of a verb", "option", "in a block", "unmarked"],
)
def test_what_is_wrong_is_told_in_one_line_with_file_and_line(tmp_path, text, said):
    guide = tmp_path / "guide.md"
    guide.write_text(text)
    (fault,) = [line for line in faults([*GUIDES, guide]) if "guide.md" in line]
    assert fault.startswith(f"{guide}{said}")
    assert "\n" not in fault


def test_a_command_that_no_guide_names_is_told():
    told = faults([README])
    assert "README.md:1: no guide says `promptferry-client ledger declare-loss`" in told


def test_blocks_that_are_run_have_names_of_their_own_and_stand_in_guides_that_are_walked():
    run = {block.run: block.guide for guide in GUIDES for block in blocks(guide) if block.run}
    assert len(run) == sum(bool(block.run) for guide in GUIDES for block in blocks(guide))
    assert set(run.values()) == set(WALK)


def test_every_guide_is_known():
    results = ROOT / "tests" / "benchmarks" / "results"
    written = {ROOT / "tests" / name for name in ("PRIVACY.md", "FAMILIES.md", "mutation/SURVIVORS.md")}
    folders = ("client", "coordinator", "transfer", "deploy", "proto", "tests", ".github")
    found = {README, *(path for folder in folders for path in (ROOT / folder).rglob("*.md"))}
    assert {path for path in found - written if results not in path.parents} == set(GUIDES)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(guide):
    for link in LINK.findall(guide.read_text(encoding="utf-8")):
        place, _, anchor = link.partition("#")
        if place.startswith("https:"):
            continue
        there = (guide.parent / place).resolve() if place else guide
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link


def test_every_task_in_the_guide_is_one(tmp_path):
    found = [block for block in blocks(ROOT / "transfer" / "README.md") if block.language == "toml"]
    assert len(found) == 5
    for block in found:
        (tmp_path / "task.toml").write_text(block.script, encoding="utf-8")
        assert Task.from_toml(tmp_path / "task.toml").name == tomllib.loads(block.script)["name"]


def test_the_page_of_the_store_names_its_tables_and_columns_and_no_others(tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    Store.open(url).close()
    engine = create_engine(url)
    tables = inspect(engine)
    real = {
        table: {column["name"] for column in tables.get_columns(table)} for table in tables.get_table_names()
    }
    engine.dispose()
    assert named(STORE) == real
    assert set(listed(STORE, "table")) == set(real)


def test_the_page_of_the_store_draws_the_transitions_there_are():
    rows = listed(STORE, "state")
    assert set(rows) == {state.value for state in CampaignState}
    for state, following in FOLLOWS.items():
        assert set(NAME.findall(rows[state.value][3])) == {each.value for each in following}
    text = STORE.read_text(encoding="utf-8")
    assert all(f"`{state.value}`" in text for state in [*ClientState, *RoundState])


def test_the_page_of_the_ledger_names_its_tables_columns_and_entries_and_no_others(tmp_path):
    place = LedgerPlace(tmp_path / "ledger.db", Ed25519PrivateKey.generate())
    LedgerFile.create(place)
    with closing(sqlite3.connect(place.path)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        real = {
            table: {row[1] for row in connection.execute(f"PRAGMA table_info({table})")} for table in tables
        }
    assert named(LEDGER) == real
    assert set(listed(LEDGER, "table")) == set(real)
    assert set(listed(LEDGER, "entry")) == {kind.value for kind in Kind}
