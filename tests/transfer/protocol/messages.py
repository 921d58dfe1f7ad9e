"""What tests of this room share."""

import torch
from hypothesis import strategies as st

from transfer.model_ref import ModelRef
from transfer.privacy import Guarantee, Spend
from transfer.prompt import SoftPrompt
from transfer.protocol.roster import KEY_BYTES, Roster
from transfer.protocol.rounds import NONCE_BYTES, Release, RoundRequest, Tuning, round_name
from transfer.subspace import Subspace
from transfer.tasks import Label, Task

WORDS = st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), min_size=1, max_size=8)


RELEASE = Release(
    round_name("first", 1),
    "alice",
    bytes(range(NONCE_BYTES)),
    SoftPrompt(torch.ones(2, 3), ModelRef("proxy", "ab" * 32)),
    Spend(1.5, 0.25, 20),
    Guarantee(2.5, 1e-6),
)
REQUEST = RoundRequest(
    round_name("first", 1),
    3,
    "alice",
    bytes(range(NONCE_BYTES)),
    Task("t", "{text} It was {answer}", (Label("a", ("x",)), Label("b", ("y",))), "Init."),
    Tuning(Spend(1.5, 0.25, 20), 1.0, 0.1),
    SoftPrompt(torch.ones(2, 3), ModelRef("proxy", "ab" * 32)),
    5,
    Roster((b"a" * KEY_BYTES, b"b" * KEY_BYTES)),
    Subspace(torch.eye(6).reshape(6, 2, 3)[:4].contiguous()),
)
