"""Kinds of one architecture that differ where it matters to a prompt or a cut."""

from collections.abc import Mapping
from typing import Any

from tests.families.sizes import LAYERS, WIDTH

ENCODERS = (
    "bert",
    "bert-generation",
    "big_bird",
    "camembert",
    "data2vec-text",
    "electra",
    "ernie",
    "megatron-bert",
    "reformer",
    "rembert",
    "roberta",
    "roberta-prelayernorm",
    "roc_bert",
    "roformer",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)
"""Encoders whose causal LM wants to be told that it is a decoder."""

ONLY: Mapping[tuple[str, str], Mapping[str, Any]] = {
    **{(name, "causal"): {"is_decoder": True} for name in ENCODERS},
    ("xlm", "causal"): {"causal": True},
}
"""What only the causal or the masked one of a model type needs."""

DEBERTA = {
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_buckets": 16,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
}
WINDOWS = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}

VARIANTS: Mapping[tuple[str, str], Mapping[str, Mapping[str, Any]]] = {
    ("bert", "causal"): {"not a decoder": {"is_decoder": False}},
    ("roberta", "causal"): {"not a decoder": {"is_decoder": False}},
    ("opt", "causal"): {"projected embeddings": {"word_embed_proj_dim": 16, "do_layer_norm_before": False}},
    ("falcon", "causal"): {
        "new decoder": {"new_decoder_architecture": True},
        "one after the other": {"parallel_attn": False},
        "ALiBi": {"alibi": True},
    },
    ("llama", "causal"): {
        "tied": {"tie_word_embeddings": True},
        "biases": {"attention_bias": True, "mlp_bias": True},
    },
    ("gpt2", "causal"): {"untied": {"tie_word_embeddings": False}},
    ("gpt_neox", "causal"): {"one after the other": {"use_parallel_residual": False}},
    ("gpt_bigcode", "causal"): {"a key for every head": {"multi_query": False}},
    ("mistral", "causal"): {"no window": {"sliding_window": None}},
    ("qwen2", "causal"): {"windows": WINDOWS},
    ("qwen3", "causal"): {"windows": WINDOWS},
    ("smollm3", "causal"): {"all rotated": {"no_rope_layers": [1, 1, 1, 1]}},
    ("stablelm", "causal"): {"parallel": {"use_parallel_residual": True, "qk_layernorm": True}},
    ("gemma2", "causal"): {"other scale": {"query_pre_attn_scalar": 32}},
    ("gemma3n_text", "causal"): {"no layer shared": {"num_kv_shared_layers": 0}},
    ("gemma4_text", "causal"): {
        "experts": {
            "enable_moe_block": True,
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 32,
        },
        "keys shared": {"num_kv_shared_layers": 2},
        "no embeddings a layer": {"hidden_size_per_layer_input": 0},
    },
    ("deepseek_v32", "causal"): {"few indexed": {"index_topk": 4}},
    ("axk2", "causal"): {"few indexed": {"index_topk": 4}},
    ("bloom", "causal"): {"other residual": {"apply_residual_connection_post_layernorm": True}},
    ("granite", "causal"): {
        "scaled": {
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.2,
            "logits_scaling": 4.0,
        }
    },
    ("granitemoehybrid", "causal"): {"rotated": {"position_embedding_type": "rope"}},
    ("bert", "masked"): {"in chunks": {"chunk_size_feed_forward": 1}},
    ("deberta-v2", "masked"): {"v3": DEBERTA, "v3, legacy = false": {**DEBERTA, "legacy": False}},
    ("deberta", "masked"): {"relative": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}},
    ("longformer", "masked"): {"wide windows": {"attention_window": 64}},
    ("big_bird", "masked"): {
        "sparse": {"attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 1}
    },
    ("roberta", "masked"): {"padding is 1": {"pad_token_id": 1}},
    ("albert", "masked"): {"two groups": {"num_hidden_groups": 2}},
    ("electra", "masked"): {"one width": {"embedding_size": WIDTH}},
    ("mobilebert", "masked"): {
        "no bottleneck": {"use_bottleneck": False, "intra_bottleneck_size": WIDTH, "true_hidden_size": WIDTH}
    },
    ("modernbert", "masked"): {"all full": {"layer_types": ["full_attention"] * LAYERS}},
}
