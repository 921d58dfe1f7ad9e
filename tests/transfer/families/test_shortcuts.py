"""What a pass leaves out changes nothing that is read."""

import pytest
import torch

from tests.transfer.configurations import CAUSAL, LENGTH
from transfer.models.generation import greedy


def test_gradients_are_those_of_a_pass_that_leaves_nothing_out(family, lines, prompt):
    rows = prompt.vectors.expand(len(lines), -1, -1).clone().requires_grad_(True)
    family.logits(family.collate(lines), rows).sin().sum().backward()
    for line, ours in zip(lines, rows.grad, strict=True):
        row = prompt.vectors.clone().requires_grad_(True)
        embeds = torch.cat([row, family.embedding[list(line.ids)]]).unsqueeze(0)
        family.model(inputs_embeds=embeds).logits[0, LENGTH + line.answer].sin().sum().backward()
        torch.testing.assert_close(ours, row.grad, atol=1e-5 * row.grad.abs().max().item(), rtol=0)


@torch.no_grad()
def test_the_last_layers_mlp_works_at_the_answers_alone(family, lines, prompt):
    seen = []
    layers = next(m for m in family.model.base_model.modules() if isinstance(m, torch.nn.ModuleList))
    for layer in layers:
        part = getattr(layer, "mlp", None) or layer.intermediate
        part.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[1]))
    family.answer_logits(lines[:1], prompt)
    assert seen == [LENGTH + len(lines[0].ids), 1]


@torch.no_grad()
@pytest.mark.parametrize("family", CAUSAL, indirect=True)
def test_an_answer_is_written_as_passes_over_the_whole_line_write_it(family, lines, prompt):
    for line, written in zip(lines, greedy(family, lines, prompt, 6, end=()), strict=True):
        tokens = []
        while len(tokens) < 6:
            embeds = torch.cat([prompt.vectors, family.embedding[[*line.ids, *tokens]]]).unsqueeze(0)
            tokens.append(int(family.model(inputs_embeds=embeds).logits[0, -1].argmax()))
        assert written == tuple(tokens)
