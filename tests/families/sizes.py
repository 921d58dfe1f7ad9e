"""Small numbers for whatever a configuration calls a size."""

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
    # pictures and sound, which no text reaches; no tokeniser here has as many tokens
    **dict.fromkeys(("image_token_id", "image_token_index"), TOKENS - 1),
    "video_token_id": TOKENS - 2,
    "audio_token_id": TOKENS - 3,
    "image_size": 16,
    "patch_size": 8,
    "output_channels": 16,
}
