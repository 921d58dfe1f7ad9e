"""What a run gives its clients and its operator, for labels and for answers in free text."""

import json

import pytest

from client.private.records import read
from coordinator.rounds import plan_file
from deploy.stages import Inputs, Run, split, write_plan
from transfer.tasks import Task

HEAD = 'name = "slots"\ntemplate = "{text} It was {answer}"\ninit_text = "A sentence"\n'
TASKS = {
    "label": HEAD + "[labels]\nnegative = ['bad']\npositive = ['good']\n",
    "answer": HEAD + 'kind = "text"\n',
    "labels": HEAD.replace(" It was {answer}", "")
    + 'label_reading = "head"\nmany = true\n[labels]\n2 = []\n1 = []\n',
}
TOLD = {"label": ["negative", "positive"], "answer": ["a film", "the train"], "labels": [["1", "2"], ["1"]]}


@pytest.mark.parametrize("kind", TASKS)
def test_clients_get_disjoint_records_and_the_operator_a_plan_that_can_be_launched(kind, tmp_path):
    (tmp_path / "task.toml").write_text(TASKS[kind])
    task = Task.from_toml(tmp_path / "task.toml")
    rows = [{"text": f"text {index}", kind: TOLD[kind][index % 2]} for index in range(7)]
    path = tmp_path / "all.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    shards = split(path, task, 3, tmp_path, seed=0)
    parts = [read(shard, task.label_names, many=task.many) for shard in shards]
    given = sorted(
        (t, told) for part in parts for t, told in zip(part.texts, part.labels or part.answers, strict=True)
    )
    whole = read(path, task.label_names, many=task.many)
    assert given == sorted(zip(whole.texts, whole.labels or whole.answers, strict=True))
    assert sorted(len(part.texts) for part in parts) == [2, 2, 3]

    overrides = {"tuning": {"steps": 2}, "transfer": {"steps": 3}, "publish": {"formats": 0}}
    demo = Run(tmp_path, 8.0, 1, 1, 0, 0, overrides, 0, 1, tmp_path / "cache")
    inputs = Inputs("target", tmp_path / "task.toml", path, path, shards, path)
    plan = plan_file.read(write_plan(demo, inputs, task))
    assert plan.transfer.space == {"answer": "vocabulary"}.get(kind, "labels")
    assert (plan.transfer.steps, plan.tuning.spend.steps) == (3, 2)
    assert (plan.publish.prompt, plan.publish.formats) == (demo.published(task), 0)
    demo.plan["publish"]["prompt"] = "another"
    assert plan_file.read(write_plan(demo, inputs, task)).publish.prompt == demo.published(task) == "another"
