"""What tests of this room share."""

import torch
from hypothesis import strategies as st

from transfer.model_ref import ModelRef
from transfer.prompt import SoftPrompt

PROXY = ModelRef("proxy", "a" * 64)


START = SoftPrompt(torch.zeros(2, 3), PROXY)


def prompt(values, model=PROXY):
    return SoftPrompt(torch.as_tensor(values, dtype=torch.float32), model)


prompts = st.lists(
    st.lists(st.floats(-4, 4, width=32), min_size=6, max_size=6).map(
        lambda values: prompt(torch.tensor(values).reshape(2, 3))
    ),
    min_size=1,
    max_size=9,
).map(lambda values: {f"client-{index}": value for index, value in enumerate(values)})
