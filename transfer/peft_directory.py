"""The bytes of a delivered prompt's files, in the format of stock PEFT; only this module makes and parses them.

It touches no disk: `coordinator.publication.publish` puts the bytes into the store, and the recipient's
`client.prompts.fetch` puts them on disk.

`adapter_model.safetensors` holds the prompt, `adapter_config.json` the settings PEFT needs. If a head reads the task,
`head.safetensors` holds its rows. The signed statement lies beside these files and is not one of them.

A prompt that stands in a chat's user turn has no `adapter_config.json`: with it PEFT would load the prompt, and put
it before everything.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

from transfer.errors import VerificationError
from transfer.model_ref import LmHead, ModelRef
from transfer.prompt import SoftPrompt
from transfer.tasks import PromptAt

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
HEAD_FILE = "head.safetensors"
HEAD_KEY = "head"
FILES = frozenset({CONFIG_FILE, WEIGHTS_FILE})
"""Files of a published prompt, all that there may be with `HEAD_FILE`."""


@dataclass(frozen=True, slots=True, eq=False)
class PeftDirectory:
    """Content of the files: a prompt [P, H], and a head [C, H] of the same model if one reads the task."""

    prompt: SoftPrompt
    head: SoftPrompt | None = None

    @staticmethod
    def of(both: SoftPrompt, head_rows: int) -> "PeftDirectory":
        """Split a tuned prompt [P + C, H]: its last C = `head_rows` rows are the head."""
        prompt = SoftPrompt(both.vectors[: both.length - head_rows], both.model)
        return PeftDirectory(prompt, SoftPrompt(both.vectors[-head_rows:], both.model) if head_rows else None)

    @property
    def whole(self) -> SoftPrompt:
        """The prompt and, behind it, the head's rows, as they were tuned: [P + C, H]."""
        if self.head is None:
            return self.prompt
        return SoftPrompt(torch.cat([self.prompt.vectors, self.head.vectors]), self.prompt.model)

    def to_files(self, lm_head: LmHead, prompt_at: PromptAt = "start") -> dict[str, bytes]:
        """Return content by file name, for a target with `lm_head` and a prompt that stands `prompt_at`.

        Raises:
            VerificationError: the files do not load back to equal vectors.
        """
        model = self.prompt.model
        files = {WEIGHTS_FILE: self.prompt.to_bytes()}
        if prompt_at == "start":
            files[CONFIG_FILE] = peft_config(self.prompt, model.name, lm_head)
        if self.head is not None:
            files[HEAD_FILE] = self.head.to_bytes(HEAD_KEY)
        back = PeftDirectory.from_files(files, model, self.head.length if self.head else 0, prompt_at)
        if not _same(back.prompt, self.prompt) or not _same(back.head, self.head):
            raise VerificationError(
                "the written prompt does not load back to the same vectors; nothing is published"
            )
        return files

    @staticmethod
    def from_files(
        files: Mapping[str, bytes], target: ModelRef, head_rows: int, prompt_at: PromptAt = "start"
    ) -> "PeftDirectory":
        """Read verified content by file name, for a task with a head of `head_rows` classes, 0 for none.

        Raises:
            VerificationError: a file is missing, unexpected or not finite float32 vectors, or the head has another
                number of classes than the task; or PEFT would put the prompt elsewhere than the task.
        """
        require_names(files)
        if (CONFIG_FILE in files) != (prompt_at == "start"):
            raise VerificationError(
                f"{CONFIG_FILE}: belongs to a prompt before everything, and to no prompt in a chat's user turn"
            )
        prompt = SoftPrompt.from_bytes(files[WEIGHTS_FILE], target)
        if (HEAD_FILE in files) != bool(head_rows):
            raise VerificationError(f"{HEAD_FILE}: a head and a task read by one belong together")
        if not head_rows:
            return PeftDirectory(prompt)
        head = SoftPrompt.from_bytes(files[HEAD_FILE], target, HEAD_KEY)
        if head.length != head_rows:
            raise VerificationError(f"{HEAD_FILE}: {head.length} classes where the task has {head_rows}")
        return PeftDirectory(prompt, head)


def require_names(names: Collection[str]) -> None:
    """Refuse other file names than a prompt's.

    Raises:
        VerificationError: a name is missing or unexpected.
    """
    if set(names) | {CONFIG_FILE} not in (FILES, FILES | {HEAD_FILE}):
        raise VerificationError(f"the statement is about {sorted(names)}, a prompt is {sorted(FILES)}")


def peft_config(prompt: SoftPrompt, model: str, lm_head: LmHead) -> bytes:
    """Return the `adapter_config.json` with which stock PEFT loads the prompt onto `model` (directory or hub name).

    All models but causal LMs use PEFT's feature-extraction wrapper. It is the only prompt-learning wrapper that
    passes a model's own output through. It puts the prompt before the first token, as
    `transfer.models.language_model` does.
    """
    config = {
        "peft_type": "PROMPT_TUNING",
        "task_type": "CAUSAL_LM" if lm_head == "causal" else "FEATURE_EXTRACTION",
        "base_model_name_or_path": model,
        "num_virtual_tokens": prompt.length,
        "token_dim": prompt.width,
        # PEFT requires both and uses neither; it cannot read them from a configuration with other names
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
