"""More tiny models: learned positions (GPT-2), another width, windowed layers (Qwen2), and one of each family."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tests.transfer.configurations import CAUSAL, LENGTH, MASKED, TEXTS
from transfer.distillation.proxy import cut
from transfer.model_ref import ModelRef
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.tokens.batches import Line


def like(tokenizer_of: Path, model: PreTrainedModel, directory: Path) -> Path:
    """A directory of `model` with the tokeniser of another."""
    model.save_pretrained(directory)
    PreTrainedTokenizerFast.from_pretrained(tokenizer_of).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_gpt2(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a random GPT-2: 4 layers, learned positions, tied head."""
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=400,
        n_embd=32,
        n_layer=4,
        n_head=4,
        n_positions=128,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return like(tiny_causal, GPT2LMHeadModel(config), tmp_path_factory.mktemp("tiny-gpt2") / "lm")


@pytest.fixture(scope="session")
def tiny_wide(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a random Llama of hidden size 48 with the tokeniser of `tiny_causal`."""
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return like(tiny_causal, LlamaForCausalLM(config), tmp_path_factory.mktemp("tiny-wide") / "lm")


@pytest.fixture(scope="session")
def tiny_qwen2(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a random Qwen2 whose upper two of four layers attend to a window of 3 tokens only."""
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        use_sliding_window=True,
        sliding_window=3,
        max_window_layers=2,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return like(tiny_causal, Qwen2ForCausalLM(config), tmp_path_factory.mktemp("tiny-qwen2") / "lm")


@pytest.fixture(scope="session")
def tiny_backbone(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of that Qwen2 saved without its LM head."""
    backbone = Qwen2ForCausalLM.from_pretrained(tiny_qwen2).model
    return like(tiny_qwen2, backbone, tmp_path_factory.mktemp("tiny-backbone") / "lm")


@pytest.fixture
def causal(tiny_causal: Path) -> LanguageModel:
    return load(tiny_causal, name="tiny-causal")


@pytest.fixture
def masked(tiny_masked: Path) -> LanguageModel:
    return load(tiny_masked, name="tiny-masked")


@pytest.fixture
def gpt2(tiny_gpt2: Path) -> LanguageModel:
    return load(tiny_gpt2, name="tiny-gpt2")


@pytest.fixture
def qwen2(tiny_qwen2: Path) -> LanguageModel:
    return load(tiny_qwen2, name="tiny-qwen2")


@pytest.fixture
def encoder(tiny_encoder: Path) -> LanguageModel:
    return load(tiny_encoder, name="tiny-encoder")


@pytest.fixture
def backbone(tiny_backbone: Path) -> LanguageModel:
    return load(tiny_backbone, name="tiny-backbone")


@pytest.fixture
def wide(tiny_wide: Path) -> LanguageModel:
    return load(tiny_wide, name="tiny-wide")


@pytest.fixture(params=["causal", "masked", "gpt2"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    """Each tiny model in turn."""
    loaded: LanguageModel = request.getfixturevalue(request.param)
    return loaded


@pytest.fixture(params=["encoder", "backbone"])
def headless(request: pytest.FixtureRequest) -> LanguageModel:
    """Each tiny model without an LM head in turn."""
    loaded: LanguageModel = request.getfixturevalue(request.param)
    return loaded


@pytest.fixture
def closing(tiny_causal):
    """A causal tokeniser that puts <s> before and </s> after every line."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_causal)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


@pytest.fixture(scope="module")
def metaspace():
    """A SentencePiece-like tokeniser: ▁ marks word starts, also the first; <s> opens a line."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    lines = ["The film was great good terrible bad. It was fun"] * 30
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=200, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokens = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens)


@pytest.fixture(scope="session")
def byte_masked() -> PreTrainedTokenizerFast:
    """RoBERTa's kind of tokeniser: byte-level, padding is token 1, <mask> takes the space before it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([*TEXTS, "It was great good terrible bad"] * 20, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos": "<s>", "cls": "<s>", "pad": "<pad>", "eos": "</s>", "sep": "</s>", "unk": "<unk>"}
    tokens = {f"{name}_token": token for name, token in names.items()}
    mask = AddedToken("<mask>", lstrip=True, special=True)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token=mask, **tokens)


@pytest.fixture(params=[*CAUSAL, *MASKED])
def family(request: pytest.FixtureRequest, tiny_causal: Path, tiny_masked: Path) -> LanguageModel:
    """A tiny random model of each family."""
    name = request.param
    torch.manual_seed(0)
    if name in CAUSAL:
        model = AutoModelForCausalLM.from_config(CAUSAL[name])
        tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_causal)
    else:
        factory, config = MASKED[name]
        model = factory(config)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_masked)
    if name == "roberta":
        tokenizer = request.getfixturevalue("byte_masked")
    return LanguageModel(model, tokenizer, ModelRef(name, "0" * 64), "causal" if name in CAUSAL else "masked")


@pytest.fixture
def lines(family: LanguageModel, tiny_task: Task) -> list[Line]:
    """The short texts as that model reads them."""
    return family.encoder(tiny_task).encode(TEXTS)


@pytest.fixture
def prompt(family: LanguageModel) -> SoftPrompt:
    """A random prompt for that model."""
    vectors = torch.randn(LENGTH, 32, generator=torch.Generator().manual_seed(0)) / 4
    return SoftPrompt(vectors, family.ref)


@pytest.fixture
def target(causal: LanguageModel) -> LanguageModel:
    """A target whose answers a prompt moves: fresh weights are too small for that."""
    with torch.no_grad():
        for matrix in causal.model.parameters():
            matrix.mul_(6 if matrix.ndim == 2 else 1)
    return causal


@pytest.fixture
def proxy(target: LanguageModel) -> LanguageModel:
    """The first layer of that target."""
    return replace(target, model=cut(target, (0,)), ref=replace(target.ref, name="proxy"))
