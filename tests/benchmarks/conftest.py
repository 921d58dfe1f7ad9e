"""Inputs of a tiny run of the quality benchmark."""

import json
import random

import pytest

WORDS = ("film", "plot", "music", "train", "food", "match", "bank", "walk", "noise", "team")


@pytest.fixture(scope="session")
def inputs(tiny_causal, tmp_path_factory):
    """Options that name a tiny target, data and task, and make every stage short."""
    root = tmp_path_factory.mktemp("quality")
    generator = random.Random(0)
    for name, count in (("private", 40), ("test", 25), ("public", 30)):
        lines = []
        for _ in range(count):
            label = generator.randrange(2)
            text = f"The {generator.choice(WORDS)} was {('great', 'bad')[label]}, the {generator.choice(WORDS)} too."
            lines.append(json.dumps({"text": text, "label": label}))
        (root / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (root / "task.toml").write_text(
        'name = "reviews"\ntemplate = "{text} It was {answer}"\ninit_text = "A review"\nmax_tokens = 32\n'
        '[labels]\npositive = ["great", "good"]\nnegative = ["terrible", "bad"]\n'
    )
    words = ["--target", str(tiny_causal), "--proxy-layers", "1", "--distil-steps", "2"]
    for name, file in (("task", "task.toml"), *((n, f"{n}.jsonl") for n in ("private", "test", "public"))):
        words += [f"--{name}", str(root / file)]
    short = {
        "rounds": 2,
        "steps": 2,
        "sample-rate": 1.0,
        "plain-steps": 3,
        "plain-lot": 8,
        "prompt-length": 2,
    }
    short |= {"transfer-steps": 4, "batch-size": 8, "check-every": 2}
    return words + [word for name, value in short.items() for word in (f"--{name}", str(value))]
