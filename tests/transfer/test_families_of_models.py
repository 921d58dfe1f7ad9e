"""What holds of one architecture holds of all that transformers loads: the prompt in front, records apart."""

import torch

from tests.transfer.configurations import LENGTH


@torch.no_grad()
def test_the_prompt_stands_before_the_whole_line(family, lines, prompt):
    together = family.answer_logits(lines, prompt)
    for line, ours in zip(lines, together, strict=True):
        embeds = torch.cat([prompt.vectors, family.embedding[list(line.ids)]]).unsqueeze(0)
        full = family.model(inputs_embeds=embeds).logits[0, LENGTH + line.answer]
        torch.testing.assert_close(ours, full, atol=1e-5, rtol=0)


@torch.no_grad()
def test_without_a_prompt_an_answer_is_the_models_own(family, lines):
    for line in lines:
        full = family.model(input_ids=torch.tensor([line.ids])).logits[0, line.answer]
        torch.testing.assert_close(family.answer_logits([line])[0], full, atol=1e-5, rtol=0)
