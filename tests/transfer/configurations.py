"""What tests of this room share."""

from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    RobertaConfig,
    RobertaForMaskedLM,
)

TEXTS = ("The film was great.", "A terrible plot and a boring evening, long and awful and slow.", "good")
SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
LIMIT = {"vocab_size": 400, "max_position_embeddings": 96}
GROUPED = {**SIZE, **LIMIT, "num_key_value_heads": 2}
CAUSAL = {
    "gpt2": GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=96),
    "llama": LlamaConfig(**GROUPED),
    "qwen2": Qwen2Config(**GROUPED, use_sliding_window=True, sliding_window=4, max_window_layers=1),
    "mistral": MistralConfig(**GROUPED, sliding_window=4),
    "gpt-neox": GPTNeoXConfig(**SIZE, **LIMIT),
}
MASKED = {
    "bert": (BertForMaskedLM, BertConfig(**SIZE, **LIMIT)),
    "roberta": (RobertaForMaskedLM, RobertaConfig(**SIZE, **LIMIT, pad_token_id=1)),
}
LENGTH = 4
