"""The two tokenisers of all tiny models: byte-level pairs for causal ones, word pieces for masked ones."""

from functools import cache

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.families.sizes import TOKENS

LINES = (
    "The film was great and the actors were good. It was fun.",
    "A terrible plot, a bad ending and a long boring evening, slow and awful. It was bad.",
    "We liked the music, the food and the long walk home.",
    "Nobody liked the weather, the noise or the slow train.",
    "A sentence about a review says whether it was great or terrible, good or bad.",
)


@cache
def tokenizer_of(lm_head: str) -> PreTrainedTokenizerFast:
    """The tokeniser of causal or of masked models, of fewer than `TOKENS` tokens."""
    return _causal() if lm_head == "causal" else _masked()


def _causal() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special, alphabet = ["<pad>", "<s>", "</s>"], pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=TOKENS - 4, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(LINES * 20, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def _masked() -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        LINES * 20, trainers.WordPieceTrainer(vocab_size=TOKENS - 4, special_tokens=special)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **dict(zip(names, special, strict=True)))
