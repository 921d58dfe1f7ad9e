"""Bytes that autograd keeps for one forward pass of large models, without their weights, as a table.

    python -m tests.benchmarks.sizes

Llama's shapes in bfloat16, behind 20 prompt tokens, by the code that `doctor --target` runs. It takes seconds.
"""

import sys

import torch
from transformers import LlamaConfig

from transfer.families.skeleton import skeleton
from transfer.models.sizing import kept_for_backward

SHAPES = {
    "8B": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "70B": {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
    },
}
SHARED = {"num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": False}
PASSES = ((8, 48), (11, 118), (8, 512))
PROMPT = 20


def config(name: str) -> LlamaConfig:
    """Return the configuration of a shape."""
    return LlamaConfig(**SHAPES[name], **SHARED, architectures=["LlamaForCausalLM"])


def table() -> str:
    """Return the results as a Markdown table, in GB."""
    lines = [
        "| shape | weights bf16 | int8 | nf4 | rows × tokens | kept for backward | with checkpointing |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in SHAPES:
        bones = skeleton(config(name), torch.bfloat16)
        weights = [f"{bones.weights(kind) / 1e9:.1f}" for kind in ("none", "int8", "nf4")]
        for rows, tokens in PASSES:
            kept = [
                kept_for_backward(bones, rows, tokens, PROMPT, checkpointing=again) for again in (False, True)
            ]
            cells = ["–" if each is None else f"{each / 1e9:.2f}" for each in kept]
            lines.append(f"| {' | '.join([name, *weights, f'{rows} × ({tokens} + {PROMPT})', *cells])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
