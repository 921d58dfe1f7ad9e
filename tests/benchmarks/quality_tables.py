"""The committed tables measured again: six tasks on one model, each with its public text, by one command.

    python -m tests.benchmarks.quality_tables --assets DIR --model lab-llama-7m --out DIR/cells.json \
        --proxy-layers 3 --distil-steps 3000 --methods bare,ceiling,proxy,arithmetic,post --seeds 2

DIR is the folder of models, data sets and corpora. What is not said here is an option of `quality`, and a cell that
OUT has is not measured again. Public texts that are mixtures are written beside OUT.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from tests.benchmarks import quality
from transfer.errors import PromptferryError
from transfer.files.atomic import replace
from transfer.files.public_text import read_texts

TASKS = Path(__file__).parents[2] / "deploy" / "tasks"
PUBLIC = {
    "sst2": "imdb_sentences",
    "agnews": "bbc",
    "airline": "cr",
    "tweet_emotion": "mix_tweets",
    "subj": "imdb_sentences",
    "trec": "mix_questions",
}
"""Each task's public text: a data set without its labels, or a mixture of other texts."""
MIXTURES = {
    "imdb_sentences": ("corpora/imdb_unsup",),
    "mix_tweets": ("datasets/airline", "datasets/tweet_stance", "datasets/meld", "corpora/imdb_unsup"),
    "mix_questions": ("datasets/clinc_domain", "datasets/banking77", "corpora/wiki_sentences"),
}
PART = 2000
"""Sentences that each source gives a mixture."""
WORDS = range(5, 41)
"""Words in a sentence."""
SIZES = {
    "train-rows": 4000,
    "public-rows": 2000,
    "test-rows": 1000,
    "prompt-length": 10,
    "rounds": 1,
    "plain-steps": 150,
    "plain-lot": 64,
    "plain-learning-rate": 0.02,
}
"""The settings of a table, but for what is said otherwise."""


def sentences(texts: Iterable[str]) -> Iterator[str]:
    """The sentences of texts that are neither very short nor very long."""
    for sentence in chain.from_iterable(re.split(r"(?<=[.!?])\s+", text) for text in texts):
        if len(sentence.split()) in WORDS:
            yield sentence


def public_text(name: str, assets: Path, place: Path) -> Path:
    """The public text of that name, written to `place` if it is a mixture: always the same bytes.

    Raises:
        DataError: a source cannot be read.
    """
    if name not in MIXTURES:
        return assets / "datasets" / name / "train.jsonl"
    sources = (read_texts(assets / source / "train.jsonl") for source in MIXTURES[name])
    mixed = chain.from_iterable(islice(sentences(source), PART) for source in sources)
    path = place / f"{name}.jsonl"
    replace(path, "".join(f"{json.dumps({'text': text})}\n" for text in mixed).encode())
    return path


def arguments(task: str, assets: Path, model: str, out: Path) -> list[str]:
    """The options of `quality` for a task.

    Raises:
        DataError: see `public_text`.
    """
    given = {
        "target": assets / "models" / model,
        "corpus": assets / "corpora" / "distill_mix_18mb" / "train.jsonl",
        "task": TASKS / f"{task}.toml",
        "private": assets / "datasets" / task / "train.jsonl",
        "test": assets / "datasets" / task / "test.jsonl",
        "public": public_text(PUBLIC[task], assets, out.parent),
        "out": out,
        "epsilon": "inf",
        "clients": 1,
        **SIZES,
    }
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def main(given: Sequence[str]) -> None:
    """Measure every task that is asked for, one after the other."""
    shape = argparse.RawDescriptionHelpFormatter
    words = argparse.ArgumentParser(
        "python -m tests.benchmarks.quality_tables", None, __doc__, formatter_class=shape
    )
    words.add_argument("--assets", type=Path, required=True, metavar="DIR")
    words.add_argument("--model", required=True, help="folder under models")
    words.add_argument("--tasks", nargs="+", choices=PUBLIC, default=list(PUBLIC))
    words.add_argument("--out", type=Path, required=True, help="results file of all tasks")
    asked, others = words.parse_known_args(given)
    try:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        for task in asked.tasks:
            quality.main([*arguments(task, asked.assets, asked.model, asked.out), *others])
    except PromptferryError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main(sys.argv[1:])
