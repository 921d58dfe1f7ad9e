"""What the rules for sizes get wrong in single architectures."""

from collections.abc import Mapping
from typing import Any

from tests.families.sizes import HEADS, LAYERS, WIDTH

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
    "longformer": {"attention_window": 16},  # half of it to each side
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
    "prophetnet": {"num_encoder_layers": LAYERS, "num_decoder_layers": LAYERS},
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
