"""A batch's gradients are those of its records alone."""

from dataclasses import replace

import pytest
import torch

from tests.transfer.configurations import TEXTS


def read_by(task, how):
    if how != "head":
        return replace(task, label_reading=how)
    labels = tuple(replace(label, words=()) for label in task.labels)
    return replace(task, template="{text}", labels=labels, label_reading=how)


@pytest.mark.parametrize("how", ["single", "whole", "head"])
def test_gradients_of_a_batch_are_those_of_its_records_alone(family, tiny_task, prompt, how):
    encoder = family.encoder(read_by(tiny_task, how))
    lines = encoder.encode(TEXTS)

    def gradients(chosen):
        rows = prompt.vectors.expand(len(chosen), -1, -1).clone().requires_grad_(True)
        logits = family.logits(family.collate(chosen), rows, encoder.words)
        logits.log_softmax(1)[:, 0].sum().backward()
        return rows.grad

    alone = torch.cat([gradients([line]) for line in lines])
    error = (gradients(lines) - alone).abs().max() / alone.abs().max()
    assert error <= 1e-5
