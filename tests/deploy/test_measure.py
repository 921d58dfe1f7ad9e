"""What is delivered computes in stock PEFT what was measured here, with a head as without one."""

from dataclasses import replace

import pytest
import torch

from client.private.records import PrivateRecords
from deploy.measure import NAMES, Measured, delivered_prompt, figures, in_stock_peft, scores, table
from transfer.models.generation import answers
from transfer.models.loading import load
from transfer.peft_directory import PeftDirectory
from transfer.post.evaluation import accuracy
from transfer.prompt import SoftPrompt

PUBLIC = tuple(
    f"The {one} was {other}." for one in ("film", "plot", "music") for other in ("bad", "good", "long", "new")
)
TEXTS = ("The film was great.", "A terrible plot and a bad ending.", "good")


@pytest.fixture(
    params=["causal words", "masked words", "causal head", "encoder head", "causal many", "causal text"]
)
def run(request, tmp_path, tiny_task, head_task):
    kind, how = request.param.split()
    task = head_task if how in ("head", "many") else tiny_task
    task = replace(task, many=how == "many")
    if how == "text":
        task = replace(tiny_task, labels=(), kind="text", answer_tokens=5)
    place = request.getfixturevalue(f"tiny_{kind}")
    target = load(place)
    vectors = torch.randn(3 + task.head_rows, 32, generator=torch.Generator().manual_seed(0)) / 4
    prompt = SoftPrompt(vectors, target.ref)
    for name, content in PeftDirectory.of(prompt, task.head_rows).to_files(target.lm_head).items():
        (tmp_path / name).write_bytes(content)
    test = PrivateRecords(TEXTS, ((0,), (0, 1), ()) if how == "many" else (0, 1, 0))
    if how == "text":  # one of three is answered as the prompt would
        told = answers(target, task, TEXTS, prompt)
        test = PrivateRecords(TEXTS, answers=("a film", f" {told[1]} ", "a walk"))
    return place, Measured(task, target, target, prompt, tmp_path, test, PUBLIC, 2, 3, tmp_path / "cache")


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
def test_stock_peft_computes_the_logits_of_the_delivered_files(run):
    place, measured = run
    assert torch.equal(delivered_prompt(measured).vectors, measured.proxy_prompt.vectors)
    share, difference = in_stock_peft(measured, place)
    assert difference < 1e-5
    if measured.task.kind == "text":
        assert share == pytest.approx(1 / 3)
    task, report = measured.task, figures(measured.task, scored(measured))
    reached = report["accuracy"]
    assert reached["transferred"] == reached["proxy_prompted"] == pytest.approx(share, abs=1e-4)
    assert list(reached) == list(NAMES)
    absent = {
        "causal text": {"without_prior", "public_start", "arithmetic"},
        "words": set(),
        "head": {"without_prior", "public_start"},
    }
    kind = "causal text" if measured.task.kind == "text" else "head" if measured.task.head_rows else "words"
    assert {name for name, figure in reached.items() if figure is None} == absent[kind]
    taught = list((measured.cache / "public-starts").glob("*"))
    assert len(taught) == (reached["public_start"] is not None)
    for kept in taught:  # a second run reads the prompt instead of teaching it again
        kept.write_bytes(SoftPrompt(torch.zeros(3, 32), measured.target.ref).to_bytes())
        asked = scored(replace(measured, ceiling_steps=0))["public_start"]
        zero = accuracy_behind(measured, SoftPrompt(torch.zeros(3, 32), measured.target.ref))
        assert asked == zero
        reached = reached | {"public_start": round(zero.micro, 4)}
    short = figures(task, scored(replace(measured, ceiling_steps=0)))["accuracy"]
    assert short == reached | {"ceiling": None}
    more = {"macro_f1", "exact_sets"} & set(report)
    assert more == ({"macro_f1", "exact_sets"} if task.many else set())
    told = {"seconds": {}, "peak_mib": {}, **report}
    rows = table(told, []).renderables[0]
    assert [column.header for column in rows.columns[1:]] == [
        report["metric"],
        *(["macro F1", "exact sets"] * task.many),
    ]


def scored(measured):
    return scores(measured, measured.test, lambda _step, _steps: None)


def accuracy_behind(measured, prompt):
    return accuracy(measured.target, measured.task, measured.test.texts, measured.test.labels, prompt)
