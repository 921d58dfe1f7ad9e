import json
import random
import shutil
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from peft import PeftModel
from safetensors.torch import save
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

from transfer.errors import ModelError, VerificationError
from transfer.model_ref import ModelRef
from transfer.peft_directory import CONFIG_FILE, WEIGHTS_FILE, peft_config
from transfer.post.evaluation import class_logits
from transfer.prompt import MAX_BYTES, TENSOR_KEY, SoftPrompt
from transfer.tokens.batches import Batch

REF = ModelRef("tiny", "0" * 64)
VECTORS = arrays(
    "float32",
    array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


def prompt(seed=0, length=3, width=32):
    return SoftPrompt(torch.randn(length, width, generator=torch.Generator().manual_seed(seed)), REF)


@settings(deadline=None, max_examples=50)
@given(VECTORS)
def test_a_prompt_survives_its_bytes_bit_for_bit(values):
    sent = SoftPrompt(torch.from_numpy(values.copy()), REF)
    received = SoftPrompt.from_bytes(sent.to_bytes(), REF)
    assert torch.equal(received.vectors.view(torch.int32), sent.vectors.view(torch.int32))
    assert (received.length, received.width, received.model) == (*values.shape, REF)


def test_equal_prompts_give_equal_bytes_however_their_memory_lies():
    once = prompt()
    transposed = SoftPrompt(once.vectors.t().contiguous().t(), REF)
    assert not transposed.vectors.is_contiguous()
    assert len({transposed.to_bytes(), *(prompt().to_bytes() for _ in range(5))}) == 1


def test_a_parsed_prompt_does_not_share_memory_with_the_bytes():
    data = bytearray(prompt().to_bytes())
    received = SoftPrompt.from_bytes(bytes(data), REF)
    received.vectors.zero_()
    assert bytes(data) == prompt().to_bytes()


@pytest.mark.parametrize(
    ("tensors", "rule"),
    [
        ({"other": torch.zeros(2, 4)}, "holds"),
        ({TENSOR_KEY: torch.zeros(2, 4), "more": torch.zeros(1)}, "holds"),
        ({}, "holds"),
        ({TENSOR_KEY: torch.tensor([[0.0, float("nan")]])}, "NaN"),
        ({TENSOR_KEY: torch.tensor([[0.0, float("-inf")]])}, "infinite"),
        ({TENSOR_KEY: torch.zeros(2, 4, dtype=torch.float16)}, "float16"),
        ({TENSOR_KEY: torch.zeros(2, 4, dtype=torch.float64)}, "float64"),
        ({TENSOR_KEY: torch.zeros(2, 4, dtype=torch.int64)}, "int64"),
        ({TENSOR_KEY: torch.zeros(4)}, "shape"),
        ({TENSOR_KEY: torch.zeros(1, 2, 4)}, "shape"),
        ({TENSOR_KEY: torch.zeros(0, 4)}, "shape"),
    ],
)
def test_only_one_finite_float32_matrix_is_a_prompt(tensors, rule):
    with pytest.raises(VerificationError, match=rule):
        SoftPrompt.from_bytes(save(tensors), REF)


def test_a_prompt_is_detached_from_any_graph():
    with pytest.raises(VerificationError, match="detached"):
        SoftPrompt(torch.zeros(2, 4, requires_grad=True), REF)


def test_an_oversized_prompt_is_refused_before_it_is_parsed():
    with pytest.raises(VerificationError, match=f"exceeds {MAX_BYTES}"):
        SoftPrompt.from_bytes(bytes(MAX_BYTES + 1), REF)


@pytest.mark.parametrize("data", [b"", b"\0" * 8, b"\xff" * 64, struct.pack("<Q", 2) + b"{}", b"PK\x03\x04"])
def test_what_is_no_safetensors_file_is_refused(data):
    with pytest.raises(VerificationError):
        SoftPrompt.from_bytes(data, REF)


def test_mutated_bytes_give_a_prompt_or_a_verification_error_and_nothing_else():
    source = random.Random(0)
    good, refused = prompt(length=2, width=4).to_bytes(), 0
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(source.randint(1, 4)):
            data[source.randrange(len(data))] = source.randrange(256)
        data = bytes(data[: source.randrange(len(data))] if source.random() < 0.2 else data)
        try:
            SoftPrompt.from_bytes(data, REF)
        except VerificationError:
            refused += 1
    assert refused > 500


@pytest.mark.parametrize("digest", ["", "0" * 63, "g" * 64, "A" * 64, "0" * 65])
def test_a_model_digest_is_sha256_in_lower_case_hex(digest):
    with pytest.raises(ModelError, match="'tiny'"):
        ModelRef("tiny", digest)


@pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing.:FutureWarning"
)  # PEFT reads a deprecated name
@pytest.mark.parametrize("kind", ["causal", "masked", "gpt2"])
def test_stock_peft_loads_the_files_and_computes_the_same_logits(kind, request, tmp_path):
    directory = request.getfixturevalue(f"tiny_{kind}")
    model = request.getfixturevalue(kind)
    tuned = SoftPrompt(prompt(seed=7, length=5).vectors, model.ref)
    (tmp_path / WEIGHTS_FILE).write_bytes(tuned.to_bytes())
    (tmp_path / CONFIG_FILE).write_bytes(peft_config(tuned, str(directory), model.lm_head))
    factory = AutoModelForCausalLM if model.causal else AutoModelForMaskedLM
    stock = PeftModel.from_pretrained(factory.from_pretrained(directory), tmp_path).eval()
    lengths = (3, 9, 6)
    ids = torch.randint(5, 100, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[int(column < length) for column in range(9)] for length in lengths])
    answer = torch.tensor([length - 1 for length in lengths])
    ours = model.logits(Batch(ids * mask, mask, answer), tuned.vectors.expand(3, -1, -1))
    with torch.no_grad():
        theirs = stock(input_ids=ids * mask, attention_mask=mask).logits
    assert theirs.shape[1] == 5 + 9
    torch.testing.assert_close(theirs[torch.arange(3), 5 + answer], ours, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing.:FutureWarning"
)  # PEFT reads a deprecated name
@pytest.mark.parametrize("kind", ["encoder", "backbone"])
def test_stock_peft_and_the_head_compute_the_same_class_logits_without_an_lm_head(
    kind, request, tmp_path, head_task
):
    model, directory = request.getfixturevalue(kind), request.getfixturevalue(f"tiny_{kind}")
    both = SoftPrompt(prompt(seed=7, length=5 + 2).vectors, model.ref)
    tuned, head = SoftPrompt(both.vectors[:5], model.ref), both.vectors[5:]
    (tmp_path / WEIGHTS_FILE).write_bytes(tuned.to_bytes())
    (tmp_path / CONFIG_FILE).write_bytes(peft_config(tuned, str(directory), model.lm_head))
    stock = PeftModel.from_pretrained(AutoModel.from_pretrained(directory), tmp_path).eval()
    texts = ["The film was great.", "A terrible plot and a boring evening, long and awful and slow."]
    for text, ours in zip(texts, class_logits(model, head_task, texts, both), strict=True):
        with torch.no_grad():
            states = stock(**model.tokenizer(text, return_tensors="pt")).last_hidden_state[0, 5:]
        pooled = states.mean(dim=0)
        torch.testing.assert_close(head @ (pooled / pooled.norm()), ours, atol=1e-5, rtol=0)


def test_the_peft_settings_are_reproducible_text():
    settings_ = peft_config(prompt(), "models/tiny", "causal")
    assert settings_ == peft_config(prompt(seed=1), "models/tiny", "causal")
    assert settings_.endswith(b"\n")
    assert json.loads(settings_)["num_virtual_tokens"] == 3


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
)
def test_a_changed_model_file_is_another_model(name, tiny_causal, tmp_path):
    copy = shutil.copytree(tiny_causal, tmp_path / "copy")
    assert ModelRef.of_directory("a", copy).digest == ModelRef.of_directory("b", tiny_causal).digest
    content = bytearray((copy / name).read_bytes())
    content[-2] ^= 1
    (copy / name).write_bytes(content)
    assert ModelRef.of_directory("a", copy).digest != ModelRef.of_directory("a", tiny_causal).digest


def test_files_that_decide_nothing_leave_the_model_as_it_is(tiny_causal, tmp_path):
    copy = shutil.copytree(tiny_causal, tmp_path / "copy")
    before = ModelRef.of_directory("a", copy)
    (copy / "proxy.json").write_text("{}")
    (copy / "generation_config.json").write_text("{}")
    (copy / "README.md").write_text("words")
    (copy / "folder.json").mkdir()
    assert ModelRef.of_directory("a", copy) == before


def test_renaming_a_file_is_noticed(tiny_causal, tmp_path):
    copy = shutil.copytree(tiny_causal, tmp_path / "copy")
    (copy / "config.json").rename(copy / "a.json")  # still first in order
    assert ModelRef.of_directory("a", copy).digest != ModelRef.of_directory("a", tiny_causal).digest
