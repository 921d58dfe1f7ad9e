"""Tiny random models of the architectures that break an assumption each."""

from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    ConvBertConfig,
    FalconConfig,
    Gemma3TextConfig,
    LlamaConfig,
    MixtralConfig,
    MobileBertConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    SmolLM3Config,
    XLNetConfig,
)

WIDE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
TABLES = {"vocab_size": 400, "max_position_embeddings": 96}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DECODER = {**WIDE, **TABLES, **TOKENS, "num_key_value_heads": 2}
NARROW = {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16, "pad_token_id": 0}
CAUSAL: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**DECODER),
    "opt": OPTConfig(
        **TABLES, **TOKENS, hidden_size=32, ffn_dim=64, num_hidden_layers=4, num_attention_heads=4,
        word_embed_proj_dim=32,
    ),
    "falcon": FalconConfig(vocab_size=400, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, **TOKENS),
    "gemma3": Gemma3TextConfig(**DECODER, head_dim=8, sliding_window=16),
    "mixtral": MixtralConfig(**DECODER, num_local_experts=4),
    "smollm3": SmolLM3Config(**DECODER, no_rope_layers=[1, 0, 1, 0]),
    "xlnet": XLNetConfig(vocab_size=400, d_model=32, n_layer=4, n_head=4, d_inner=64),
}  # fmt: skip
MASKED: dict[str, PreTrainedConfig] = {
    "mobilebert": MobileBertConfig(**WIDE, **TABLES, **NARROW),
    "convbert": ConvBertConfig(**WIDE, **TABLES, embedding_size=32, conv_kernel_size=3, head_ratio=2),
}


def saved(name: str, tokenizer_of: Path, directory: Path) -> Path:
    """A directory of that kind."""
    torch.manual_seed(0)
    factory = AutoModelForCausalLM if name in CAUSAL else AutoModelForMaskedLM
    enlarged(factory.from_config({**CAUSAL, **MASKED}[name])).save_pretrained(directory)
    PreTrainedTokenizerFast.from_pretrained(tokenizer_of).save_pretrained(directory)
    return directory


@torch.no_grad()
def enlarged(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, its weights large enough to tell one way of reading from another."""
    draw = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.add_(torch.randn(weight.shape, generator=draw) * (0.1 if weight.dim() > 1 else 0.02))
    return model
