"""What tests of this room share."""

from coordinator.rounds import plan_file

TASK = """
name = "sst2"
template = "{text} It was {answer}."
init_text = "Predict the sentiment of the review."
[labels]
negative = ["bad"]
positive = ["good"]
"""
PLAN = """
name = "first"
task = "tasks/sst2.toml"
proxy = "mini"
public_text = "public.jsonl"
rounds = 2
[tuning]
epsilon = 8.0
steps = 5
[publish]
prompt = "sst2"
"""


def plan(directory, text=PLAN):
    path = directory / "plan.toml"
    path.write_text(text, encoding="utf-8")
    return plan_file.read(path)
