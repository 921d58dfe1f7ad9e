"""Accuracy by format is told for the bare target, the text prompt, and prompts from wherever they are kept."""

import json
from pathlib import Path

import pytest

from client.private.records import read
from tests.benchmarks.formats import app
from transfer.errors import UsageError
from transfer.models.loading import load
from transfer.peft_directory import PeftDirectory
from transfer.post.baselines import text_prompt
from transfer.post.evaluation import accuracy
from transfer.tasks import Task
from transfer.terminal import console


def option(inputs: list[str], name: str) -> str:
    return inputs[inputs.index(f"--{name}") + 1]


def ended(words: list[str]) -> object:
    with pytest.raises(SystemExit) as end:
        console.run(app, words)
    return end.value.code


def words(inputs: list[str], *more: str) -> list[str]:
    return [*(f"--{name}={option(inputs, name)}" for name in ("target", "task", "test")), *more]


def test_prompts_are_measured_beside_the_bare_target_and_its_text(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, task = load(option(inputs, "target")), Task.from_toml(Path(option(inputs, "task")))
    prompt = text_prompt(model, task, 4)
    published, cached, kept = (tmp_path / name for name in ("published", "prompt.json", "library.json"))
    published.mkdir()
    for name, content in PeftDirectory.of(prompt, 0).to_files("causal").items():
        (published / name).write_bytes(content)
    cached.write_text(json.dumps({"settings": {}, "seconds": 1.0, "vectors": prompt.vectors.tolist()}))
    kept.write_text(json.dumps({"task": {}, "prompt": prompt.vectors.tolist()}))
    given = [f"--prompt={path.stem}={path}" for path in (published, cached, kept)]
    assert not ended(
        words(inputs, *given, "--prompt-length=4", "--formats=5", "--rows=20", "--per-format", "--device=cpu")
    )
    bare, *others = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert bare["prompt"] == "bare"
    assert [each.pop("prompt") for each in others] == ["text", "published", "prompt", "library"]
    assert others[0] == others[1] == others[2] == others[3]
    records = read(Path(option(inputs, "test")), task.label_names)
    for each in (bare, others[0]):
        shares = each.pop("accuracies")
        assert (each["formats"], each["rows"], len(shares)) == (5, 20, 5)
        assert each["canonical"] == shares[task.template]
        assert each["worst"] == min(shares.values())
        assert each["mean"] == pytest.approx(sum(shares.values()) / 5)
        assert each["spread"] == pytest.approx(max(shares.values()) - min(shares.values()))
        assert each["least"] <= each["agreement"] <= 1
    assert not ended(words(inputs, "--device=cpu"))
    whole = json.loads(capsys.readouterr().out.splitlines()[0])
    assert whole["canonical"] == pytest.approx(accuracy(model, task, records.texts, records.labels).micro)
    assert whole["formats"] == 12


@pytest.mark.parametrize("given", ["published", "name=wide.json"])
def test_a_prompt_that_does_not_fit_is_refused(
    inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wide.json").write_text(json.dumps({"vectors": [[0.5] * 7]}))
    assert ended(words(inputs, f"--prompt={given}", "--device=cpu")) == UsageError.exit_status


def test_a_task_without_label_words_is_refused(inputs: list[str], tmp_path: Path) -> None:
    task = tmp_path / "head.toml"
    text = Path(option(inputs, "task")).read_text().replace(" It was {answer}", "")
    text = text.replace('["great", "good"]', "[]").replace('["terrible", "bad"]', "[]")
    task.write_text('label_reading = "head"\n' + text)
    given = [f"--task={task}" if word.startswith("--task=") else word for word in words(inputs)]
    assert ended(given) == UsageError.exit_status
