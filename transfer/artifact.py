"""The directory a prompt is delivered as, written and read here alone: files that stock PEFT loads.

`adapter_model.safetensors` holds the prompt and `adapter_config.json` what PEFT asks for; where a head reads the
task, `head.safetensors` holds its rows. The signed statement lies beside them and is no part of it.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

from transfer.errors import VerificationError
from transfer.model_ref import LmHead, ModelRef
from transfer.prompt import SoftPrompt

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
HEAD_FILE = "head.safetensors"
HEAD_KEY = "head"
FILES = frozenset({CONFIG_FILE, WEIGHTS_FILE})
"""What every published prompt consists of; with a head it has `HEAD_FILE` as well."""


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """What the files hold: a prompt [P, H], and a head [C, H] of the same model if the task is read by one."""

    prompt: SoftPrompt
    head: SoftPrompt | None = None

    @staticmethod
    def of(both: SoftPrompt, head_rows: int) -> "Artifact":
        """Take a tuned prompt [P + C, H] apart: its last C = `head_rows` rows are the head."""
        prompt = SoftPrompt(both.vectors[: both.length - head_rows], both.model)
        return Artifact(prompt, SoftPrompt(both.vectors[-head_rows:], both.model) if head_rows else None)

    def to_files(self, lm_head: LmHead) -> dict[str, bytes]:
        """Content by file name, for a target that is read by `lm_head`.

        Raises:
            VerificationError: they do not load back to the very same vectors.
        """
        model = self.prompt.model
        files = {
            WEIGHTS_FILE: self.prompt.to_bytes(),
            CONFIG_FILE: peft_config(self.prompt, model.name, lm_head),
        }
        if self.head is not None:
            files[HEAD_FILE] = self.head.to_bytes(HEAD_KEY)
        back = Artifact.from_files(files, model, self.head.length if self.head else 0)
        if not _same(back.prompt, self.prompt) or not _same(back.head, self.head):
            raise VerificationError(
                "the written prompt does not load back to the same vectors; nothing is published"
            )
        return files

    @staticmethod
    def from_files(files: Mapping[str, bytes], target: ModelRef, head_rows: int) -> "Artifact":
        """Read verified content by file name, of a task with a head of `head_rows` classes, 0 for none.

        Raises:
            VerificationError: a file is missing or too many, not finite float32 vectors, or the head is another's.
        """
        require_names(files)
        prompt = SoftPrompt.from_bytes(files[WEIGHTS_FILE], target)
        if (HEAD_FILE in files) != bool(head_rows):
            raise VerificationError(f"{HEAD_FILE}: a head and a task read by one belong together")
        if not head_rows:
            return Artifact(prompt)
        head = SoftPrompt.from_bytes(files[HEAD_FILE], target, HEAD_KEY)
        if head.length != head_rows:
            raise VerificationError(f"{HEAD_FILE}: {head.length} classes where the task has {head_rows}")
        return Artifact(prompt, head)


def require_names(names: Collection[str]) -> None:
    """Refuse other files than a prompt's.

    Raises:
        VerificationError: see above.
    """
    if set(names) not in (FILES, FILES | {HEAD_FILE}):
        raise VerificationError(f"the statement is about {sorted(names)}, a prompt is {sorted(FILES)}")


def peft_config(prompt: SoftPrompt, model: str, lm_head: LmHead) -> bytes:
    """`adapter_config.json` with which stock PEFT loads the prompt onto `model` (directory or hub name).

    All but causal LMs use PEFT's feature-extraction wrapper, the one prompt-learning wrapper that passes a
    model's own output through; it prepends the prompt before the first token as
    `transfer.models.language_model` does.
    """
    config = {
        "peft_type": "PROMPT_TUNING",
        "task_type": "CAUSAL_LM" if lm_head == "causal" else "FEATURE_EXTRACTION",
        "base_model_name_or_path": model,
        "num_virtual_tokens": prompt.length,
        "token_dim": prompt.width,
        # PEFT asks for both and uses neither; from a model whose configuration has other names it cannot learn them
        "num_layers": 1,
        "num_attention_heads": 1,
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
        "inference_mode": True,
    }
    return (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()


def _same(one: SoftPrompt | None, other: SoftPrompt | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one.vectors, other.vectors)
