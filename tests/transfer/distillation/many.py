"""What one process and several distil alike: `torchrun … python -m tests.transfer.distillation.many FOLDER MODE`."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file

from tests.transfer.distillation.lessons import SHORT, TEXTS, stirred, weights
from transfer.distillation.distil import distil
from transfer.distillation.processes import ALONE, Processes, joined
from transfer.errors import PromptferryError
from transfer.models.loading import load

SETTINGS = replace(SHORT, steps=11, check_every=4)
CASES = {
    "causal": replace(SETTINGS, accumulate=2, prompted_share=0.5),
    "causal-all": replace(SETTINGS, freeze=(), batch_tokens=96),
    "masked": replace(SETTINGS, kl_at="all"),
    # one batch a step, which is not cut: the second process has nothing of its own
    "encoder": replace(SETTINGS, learning_rate=3e-4),
}
BROKEN_OFF = 6
"""The step at which some runs end, behind the checkpoint at step 4."""


class PowerCut(BaseException):
    """The process ends here."""


def loaded(folder, kind):
    """A target of that kind; without dropout, whose draws depend on the process."""
    target = stirred(load(folder / kind, name=kind))
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        setattr(target.model.config, name, 0.0)
    return target


def distilled(folder, case, processes=ALONE, unfinished=None, until=None):
    def on_progress(step, _kl):
        if step == until:
            raise PowerCut

    target = loaded(folder, case.partition("-")[0])
    return distil(target, (0,), TEXTS, CASES[case], on_progress, unfinished, processes)


def begun(folder, case, unfinished, processes=ALONE):
    """Leave an unfinished distillation."""
    try:
        distilled(folder, case, processes, unfinished, BROKEN_OFF)
    except PowerCut:
        return
    raise AssertionError("it went on")


def every_case(folder):
    """Distil each case with whole and with divided layers, and go on where one process or more left off."""
    for divide in (False, True):
        way = Processes.here(divide=divide)
        assert way.count > 1
        mark = "divided" if divide else "whole"
        for case in CASES:
            kept(folder / f"{case}-{mark}", distilled(folder, case, way), way)
        begun(folder, "causal", folder / f"left-{mark}", way)
        kept(folder / f"went-on-{mark}", distilled(folder, "causal", way, folder / f"alone-{mark}"), way)


def begin(folder):
    """Leave unfinished what others go on with."""
    for divide in (False, True):
        way = Processes.here(divide=divide)
        begun(folder, "causal", folder / f"alone-{'divided' if divide else 'whole'}", way)


def kept(place, proxy, way):
    if way.first:
        save_file(
            {name: weight.clone() for name, weight in weights(proxy).items()},
            place.with_suffix(".safetensors"),
        )
        told = [proxy.held_out_kl, proxy.held_out_perplexity, proxy.steps]
        place.with_suffix(".json").write_text(json.dumps(told), encoding="utf-8")


def other_text(folder):
    """The second process has lost a line of text."""
    way = Processes.here()
    distil(loaded(folder, "causal"), (0,), TEXTS[way.rank :], SHORT, processes=way)


def main(folder, mode):
    with joined():
        {"every-case": every_case, "begin": begin, "other-text": other_text}[mode](folder)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2])
    except PromptferryError as error:
        sys.exit(f"error: {error}")
