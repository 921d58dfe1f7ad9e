"""Small numbers for the sizes of a configuration, and what single families need besides."""

from collections.abc import Mapping
from typing import Any

WIDTH, HEADS, LAYERS, TOKENS, PLACES = 32, 4, 4, 400, 128

SIZES: Mapping[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_dim"), WIDTH),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), LAYERS),
    **dict.fromkeys(
        (
            "num_attention_heads",
            "n_head",
            "n_heads",
            "num_heads",
            "decoder_attention_heads",
            "attention_heads",
        ),
        HEADS,
    ),
    **dict.fromkeys(("encoder_layers", "num_encoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("encoder_attention_heads",), HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("head_dim", "d_head", "dim_head", "kv_channels"), 8),
    **dict.fromkeys(
        (
            "intermediate_size",
            "decoder_ffn_dim",
            "encoder_ffn_dim",
            "hidden_dim",
            "ffn_dim",
            "ffn_hidden_size",
            "d_inner",
            "dim_ff",
            "dff",
            "n_inner",
            "intermediate_size_mlp",
            "dense_intermediate_size",
            "shared_intermediate_size",
        ),
        64,
    ),
    **dict.fromkeys(
        (
            "moe_intermediate_size",
            "shared_expert_intermediate_size",
            "shared_experts_intermediate_size",
            "moe_shared_expert_intermediate_size",
            "expert_ffn_hidden_size",
        ),
        32,
    ),
    **dict.fromkeys(("vocab_size", "decoder_vocab_size", "vocab_size_per_layer_input"), TOKENS),
    **dict.fromkeys(
        (
            "max_position_embeddings",
            "n_positions",
            "n_ctx",
            "max_seq_len",
            "model_max_length",
            "context_length",
            "max_target_positions",
            "original_max_position_embeddings",
        ),
        PLACES,
    ),
    **dict.fromkeys(
        (
            "sliding_window",
            "window_size",
            "attention_window_size",
            "sliding_window_size",
            "local_attention",
            "attention_window",
        ),
        8,
    ),
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group"), 1),
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "index_head_dim": 8,
    "index_n_heads": 2,
    "index_topk": 64,  # all tokens of a line, as 2048 are of most
    "first_k_dense_replace": 1,
    "embedding_size": 16,
    # state spaces and linear attention
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim"), 8),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "linear_num_heads"), 4),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"), 8),
    **dict.fromkeys(("time_step_rank", "mamba_dt_rank"), 4),
    **dict.fromkeys(("rotary_dim",), 4),
    "lru_width": WIDTH,
    "attention_hidden_size": WIDTH,
    # pictures and sound, which no text reaches
    "image_size": 16,
    "patch_size": 8,
    "output_channels": 16,
}

ALTERNATING = ["linear_attention", "full_attention"] * 2
AS_DEEP = {"encoder_layers": LAYERS}  # the cache of a decoder alone counts the encoder's layers
HASHED = {
    "attn_layers": ["local", "lsh", "local", "lsh"],
    "axial_pos_shape": (8, 16),
    "axial_pos_embds_dim": (16, 16),
}

ALL_SHARED = {"num_kv_shared_layers": LAYERS}
NARROW = {"nemo_conv_channels": 16, "ext_pw_out_channel": WIDTH, "depthwise_separable_out_channel": WIDTH}

OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(
        (
            "bart",
            "bigbird_pegasus",
            "blenderbot",
            "blenderbot-small",
            "marian",
            "mbart",
            "mvp",
            "pegasus",
            "plbart",
        ),
        AS_DEEP,
    ),
    "bamba": {"attn_layer_indices": [1, 3]},
    "big_bird": {"block_size": 8},
    "blt": {
        "encoder_hash_byte_group_vocab": 50,
        "encoder_hash_byte_group_size": [2, 3],
        "encoder_config": {"hidden_size_global": WIDTH},
        "decoder_config": {"hidden_size_global": WIDTH},
        "patch_size": 4,
    },
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8},
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v4": {
        "o_groups": 2,
        "o_lora_rank": 8,
        "num_key_value_heads": 1,
        "compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4},
    },
    "dots3_note": {
        "vision_config": {"adapter_in_dim": WIDTH, "adapter_out_dim": WIDTH},
        "audio_config": {"adapter_input_size": WIDTH, "adapter_out_dim": WIDTH},
    },
    "dots3_note_text": {
        "head_dim": 12,
        "shared_experts_intermediate_size": 32,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 4,
        "swa_q_lora_rank": 8,
        "swa_kv_lora_rank": 8,
        "swa_head_dim": 12,
        "swa_qk_nope_head_dim": 8,
        "swa_v_head_dim": 8,
    },
    "esmc": {"num_key_value_heads": HEADS},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {"hidden_size_per_layer_input": 8, "num_kv_shared_layers": 2, "laurel_rank": 4},
    "gemma4": {"vision_config": {"position_embedding_size": 16}, "audio_config": {"output_proj_dims": WIDTH}},
    "gemma4_assistant": {
        "text_config": {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0, **ALL_SHARED},
        "backbone_hidden_size": WIDTH,
    },
    "gemma4_unified": {
        "vision_config": {"mm_embed_dim": WIDTH, "output_proj_dims": WIDTH, "mm_posemb_size": 16}
    },
    "gemma4_unified_assistant": {"text_config": ALL_SHARED, "backbone_hidden_size": WIDTH},
    "gemma4_text": {"hidden_size_per_layer_input": 8, "global_head_dim": 16},
    "gemma4_unified_text": {"global_head_dim": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": ALTERNATING},
    "inkling_text": {
        "swa_num_attention_heads": HEADS,
        "swa_num_key_value_heads": 2,
        "swa_head_dim": 8,
        "d_rel": 4,
        "rel_extent": 16,
    },
    "inkling2_text": {
        "swa_num_attention_heads": HEADS,
        "swa_num_key_value_heads": 2,
        "swa_head_dim": 8,
        "d_rel": 4,
        "rel_extent": 16,
        "unpadded_vocab_size": None,
    },
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "longcat_flash": {"zero_expert_num": 2, "head_dim": 4},
    "luke": {"entity_vocab_size": 50, "entity_emb_size": 16},
    "mamba2": {"num_heads": 8, "n_groups": 2},
    "mobilebert": {"intra_bottleneck_size": 16, "true_hidden_size": 16},
    "neomme": {
        "rope_parameters": {
            kind: {"partial_rotary_factor": 0.5} for kind in ("full_attention", "sliding_attention")
        }
    },
    "phi4_multimodal": {"audio_config": NARROW},
    "perceiver": {
        "num_latents": 16,
        "d_latents": WIDTH,
        "num_self_attends_per_block": 2,
        "num_self_attention_heads": HEADS,
        "num_cross_attention_heads": HEADS,
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
        "hc_lowrank": 8,
    },
    "reformer": {
        **HASHED,
        "attention_head_size": 8,
        "feed_forward_size": 64,
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
        "num_buckets": 4,
        "hash_seed": 0,
    },
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 24},
    "roc_bert": {
        "pronunciation_embed_dim": 16,
        "pronunciation_vocab_size": 50,
        "shape_embed_dim": 16,
        "shape_vocab_size": 50,
    },
    "squeezebert": {"embedding_size": WIDTH},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "attention_head_dim": 16,
        "attention_hidden_size": 2 * WIDTH,
        "num_key_value_heads": HEADS,
        "n_mamba_heads": 2,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
    },
    "xlstm": {"hidden_size": 64, "embedding_dim": 64, "qk_dim_factor": 1.0},
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
}

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
    ("xlm", "causal"): {"not a decoder": {"causal": False}},
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
