"""Tiny tokenisers with chat templates of the kinds that published models have."""

import json
from collections.abc import Callable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

LINES = [
    "The film was great. A terrible plot\n\nIs it good or bad?",
    "user assistant system great good bad",
    "film\n\n",
] * 20
CHATML = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TODAY = "{{ strftime_now('%d %b %Y') }}"
LLAMA3 = (
    "{{ bos_token }}<|head|>system<|/head|>\n\nToday is " + TODAY + ".\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}"
    "{% set messages = messages[1:] %}{% endif %}"
    "<|eot|>{% for m in messages %}<|head|>{{ m.role }}<|/head|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'system' %}<<SYS>>{{ m.content }}<</SYS>> {% else %}"
    " {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
PLAIN = (
    "{% for m in messages %}<|{{ m.role }}|>\n\n{{ m.content }}{{ eos_token }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n\n{% endif %}"
)
THINKING = CHATML.replace(
    "{{ m.role }}\n", "{{ m.role }}\n{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
)


def _bytes(special: list[str], **roles: str) -> PreTrainedTokenizerFast:
    """GPT-2's kind: bytes, spaces belong to the word behind them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return _trained(tokenizer, special, roles)


def _trained(tokenizer: Tokenizer, special: list[str], roles: dict[str, str]) -> PreTrainedTokenizerFast:
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(LINES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def _opened(tokenizer: PreTrainedTokenizerFast, bos: str) -> PreTrainedTokenizerFast:
    """Let every line begin with `bos`, as where a template must not add a second one."""
    number = tokenizer.convert_tokens_to_ids(bos)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, number)]
    )
    return tokenizer


def chatml() -> PreTrainedTokenizerBase:
    """Without a BOS; a default system turn."""
    return _bytes(["<|im_start|>", "<|im_end|>"], eos_token="<|im_end|>")


def llama3() -> PreTrainedTokenizerBase:
    """BOS in the template and by the tokeniser; today's date; turns trimmed, with an end of their own."""
    tokenizer = Tokenizer(models.BPE())
    words = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    special = ["<|bos|>", "<|eos|>", "<|head|>", "<|/head|>", "<|eot|>"]
    return _opened(_trained(tokenizer, special, {"bos_token": "<|bos|>", "eos_token": "<|eos|>"}), "<|bos|>")


def _pieces(special: list[str], prepend: str) -> PreTrainedTokenizerFast:
    """SentencePiece's kind: ▁ for spaces, unknown characters in bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Metaspace(prepend_scheme=prepend), decoders.ByteFallback()]
    )
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<unk>", "<s>", "</s>", *special, *fallback]
    )
    tokenizer.train_from_iterator(LINES, trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in fallback]
    roles = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    whole = Tokenizer.from_str(json.dumps(state))
    return _opened(PreTrainedTokenizerFast(tokenizer_object=whole, **roles), "<s>")


def gemma() -> PreTrainedTokenizerBase:
    """No system turn; BOS; turns trimmed, with an end of their own."""
    return _pieces(["<start_of_turn>", "<end_of_turn>"], "never")


def inst() -> PreTrainedTokenizerBase:
    """Turns marked by ordinary text, spaces that merge with what is said, a space before an answer."""
    return _pieces([], "first")


def plain() -> PreTrainedTokenizerBase:
    """Turns marked by added tokens that are not special; blank lines that merge otherwise before a word."""
    tokenizer = _bytes(["<|eos|>"], eos_token="<|eos|>")
    roles = [
        AddedToken(f"<|{role}|>", special=False, normalized=False) for role in ("system", "user", "assistant")
    ]
    tokenizer.add_tokens(roles)
    return tokenizer


def with_template(make: Callable[[], PreTrainedTokenizerBase], template: str) -> PreTrainedTokenizerBase:
    tokenizer = make()
    tokenizer.chat_template = template
    return tokenizer


KINDS = {
    "chatml": (chatml, CHATML),
    "llama3": (llama3, LLAMA3),
    "gemma": (gemma, GEMMA),
    "inst": (inst, INST),
    "plain": (plain, PLAIN),
    "thinking": (chatml, THINKING),
}
ENDS = {
    "chatml": "<|im_end|>",
    "llama3": "<|eot|>",
    "gemma": "<end_of_turn>",
    "inst": "</s>",
    "plain": "<|eos|>",
    "thinking": "<|im_end|>",
}
