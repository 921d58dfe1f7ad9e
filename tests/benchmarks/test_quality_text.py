"""The quality benchmark of a task whose answers are free text."""

import json

import pytest

from tests.benchmarks import quality
from tests.benchmarks.quality_cells import BY_LABELS, METHODS
from transfer.errors import UsageError
from transfer.models.generation import answers
from transfer.models.loading import load
from transfer.tasks import Task

ANSWERS = ("the film", "the plot")


@pytest.fixture
def free(inputs, tmp_path):
    """The same options with records that are answered by a few words of their own."""
    for name, count in (("private", 40), ("test", 24)):
        lines = (
            json.dumps({"text": f"Number {row} was good.", "answer": ANSWERS[row % 2]})
            for row in range(count)
        )
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "task.toml").write_text(
        'name = "slots"\ntemplate = "{text} It was {answer}"\ninit_text = "A review"\nmax_tokens = 32\n'
        'kind = "text"\nanswer_tokens = 4\n'
    )
    files = {"task": "task.toml", "private": "private.jsonl", "test": "test.jsonl"}
    own = [word for name, file in files.items() for word in (f"--{name}", str(tmp_path / file))]
    return [*inputs, *own, "--clients", "2", "--dimensions", "4", "--out", str(tmp_path / "out.json")]


def lines_of(folder):
    return [json.loads(line) for line in (folder / "out.json").read_text().splitlines()]


@pytest.mark.slow
def test_every_method_that_can_answer_in_free_text_is_measured_by_exact_match(free, tmp_path, capsys):
    quality.main([*free, "--space", "vocabulary", "--epsilon", "8,inf", "--test-rows", "10"])
    left_out = "all leaves out public-prior, public-start, arithmetic, library, shuffled: needs labels"
    assert [line[: len(left_out)] for line in capsys.readouterr().err.splitlines()].count(left_out) == 1
    lines = lines_of(tmp_path)
    assert {line["method"] for line in lines} == set(METHODS) - set(BY_LABELS)
    assert all(line["micro"] == line["macro"] for line in lines)
    assert all(round(10 * line["micro"], 6).is_integer() for line in lines)


def test_an_answer_counts_if_it_is_the_whole_of_what_the_model_writes(free, tmp_path):
    task, target = Task.from_toml(tmp_path / "task.toml"), load(free[free.index("--target") + 1])
    texts = [f"Number {row} was good." for row in range(8)]
    written = answers(target, task, texts)
    told = [*written[:3], *(f"{answer} and more" for answer in written[3:])]
    lines = (json.dumps({"text": text, "answer": answer}) for text, answer in zip(texts, told, strict=True))
    (tmp_path / "test.jsonl").write_text("\n".join(lines))
    quality.main([*free, "--space", "vocabulary", "--epsilon", "inf", "--methods", "bare"])
    (line,) = lines_of(tmp_path)
    assert (line["micro"], line["macro"]) == (3 / 8, 3 / 8)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], 'transfer with space = "vocabulary"'),
        (["--space", "vocabulary", "--methods", "bare,arithmetic"], "method 'arithmetic' needs labels"),
        (["--space", "vocabulary", "--partition", "dirichlet:1"], "--partition iid"),
    ],
)
def test_what_needs_labels_is_refused_before_anything_is_distilled(free, tmp_path, capsys, options, says):
    with pytest.raises(SystemExit) as ended:
        quality.main([*free, *options])
    assert ended.value.code == UsageError.exit_status
    assert says in capsys.readouterr().err
    assert not list(tmp_path.glob("out.json.cache/*"))
