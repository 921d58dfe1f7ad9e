"""What is delivered computes in stock PEFT what was measured here, with a head as without one."""

from dataclasses import replace

import pytest
import torch

from client.private.records import PrivateRecords
from deploy.measure import NAMES, Measured, accuracies, delivered_prompt, in_stock_peft
from transfer.models.generation import answers
from transfer.models.loading import load
from transfer.peft_directory import PeftDirectory
from transfer.prompt import SoftPrompt

PUBLIC = tuple(
    f"The {one} was {other}." for one in ("film", "plot", "music") for other in ("bad", "good", "long", "new")
)
TEXTS = ("The film was great.", "A terrible plot and a bad ending.", "good")


@pytest.fixture(params=["causal words", "masked words", "causal head", "encoder head", "causal text"])
def run(request, tmp_path, tiny_task, head_task):
    kind, how = request.param.split()
    task = head_task if how == "head" else tiny_task
    if how == "text":
        task = replace(tiny_task, labels=(), kind="text", answer_tokens=5)
    place = request.getfixturevalue(f"tiny_{kind}")
    target = load(place)
    vectors = torch.randn(3 + task.head_rows, 32, generator=torch.Generator().manual_seed(0)) / 4
    prompt = SoftPrompt(vectors, target.ref)
    for name, content in PeftDirectory.of(prompt, task.head_rows).to_files(target.lm_head).items():
        (tmp_path / name).write_bytes(content)
    test = PrivateRecords(TEXTS, (0, 1, 0))
    if how == "text":  # one of three is answered as the prompt would
        told = answers(target, task, TEXTS, prompt)
        test = PrivateRecords(TEXTS, answers=("a film", f" {told[1]} ", "a walk"))
    return place, Measured(task, target, target, prompt, tmp_path, test, PUBLIC, ceiling_steps=2)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
def test_stock_peft_computes_the_logits_of_the_delivered_files(run):
    place, measured = run
    assert torch.equal(delivered_prompt(measured).vectors, measured.proxy_prompt.vectors)
    accuracy, difference = in_stock_peft(measured, place)
    assert difference < 1e-5
    if measured.task.kind == "text":
        assert accuracy == pytest.approx(1 / 3)
    reached = accuracies(measured, measured.test, lambda _step, _steps: None)
    assert reached["transferred"] == reached["proxy_prompted"] == pytest.approx(accuracy, abs=1e-4)
    assert list(reached) == list(NAMES)
    absent = {
        "causal text": {"without_prior", "public_start", "arithmetic"},
        "words": set(),
        "head": {"without_prior", "public_start"},
    }
    kind = "causal text" if measured.task.kind == "text" else "head" if measured.task.head_rows else "words"
    assert {name for name, figure in reached.items() if figure is None} == absent[kind]
    short = accuracies(replace(measured, ceiling_steps=0), measured.test, lambda _step, _steps: None)
    assert short == reached | {"ceiling": None}
