"""A line with a place for a text, whose special tokens are its own whatever the text is.

A special token spelt in a text would be a second blank or an early end. What a text becomes is asked of the
tokeniser, as no list of spellings would be whole: it may match a special token in any case or width, with characters
left out or with spaces around, and one that only the line around the text completes.
"""

from collections.abc import Sequence

from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

_PASSES = 8
"""How often what is spelt is taken out of a text: what is left may spell more."""


def special_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens with a role, or added as special.

    That for unknown words is none of them unless it has another role too: any text may hold an unknown word.
    """
    named = [token for role, token in tokenizer.special_tokens_map.items() if role != "unk_token"]
    roles = (tokenizer.convert_tokens_to_ids(token) for token in named)
    added = {token for token, told in tokenizer.added_tokens_decoder.items() if told.special}
    return frozenset(token for token in roles if isinstance(token, int)) | added - {tokenizer.unk_token_id}


class Frame:
    """What stands before and behind any text, for one tokeniser.

    Attributes:
        bare: tokens of the line without a text.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, before: str, behind: str = "", *, inside: bool = False
    ) -> None:
        """`inside`: the tokeniser is not to open and close the line."""
        self._tokenizer, self._before, self._behind = tokenizer, before, behind
        self._opened = not inside
        self._special = special_ids(tokenizer)
        self._unknown = tokenizer.unk_token_id
        self.bare = self._encoded("").ids
        self._own = self.specials(self.bare)

    def ids(self, text: str) -> list[int]:
        """Tokens of the line with `text` in it, stripped, and a space in place of each special token it spells."""
        text = text.strip()
        for _ in range(_PASSES):
            encoding = self._encoded(text)
            spelt = self._spelt(encoding, text)
            if not spelt and self.specials(encoding.ids) == self._own:
                return encoding.ids
            # none found: the text took a special token from the line itself, or hides one of its own
            text = _without(text, spelt).strip() if spelt else ""
        return self.bare

    def takes(self, text: str) -> bool:
        """Whether the line's own special tokens are still seen with `text` beside them."""
        return len(self.specials(self._encoded(text).ids)) >= len(self._own)

    def ends(self, text: str) -> list[int]:
        """Where in `text` the tokens end that are not special."""
        encoding = self._tokenizer(text, add_special_tokens=False).encodings[0]
        return [
            end
            for token, (_, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if token not in self._special
        ]

    def specials(self, ids: Sequence[int]) -> list[int]:
        """The special tokens among `ids`, in order."""
        return [token for token in ids if token in self._special]

    def _encoded(self, text: str) -> Encoding:
        line = self._before + text + self._behind
        encoding: Encoding = self._tokenizer(line, add_special_tokens=self._opened).encodings[0]
        return encoding

    def _spelt(self, encoding: Encoding, text: str) -> list[tuple[int, int]]:
        """Parts of the text, from and up to a character, that are special tokens of the line or parts of them."""
        ids = encoding.ids
        if self._unknown not in ids and self.specials(ids) == self._own:
            return []
        start = len(self._before)
        spans = []
        for token, (first, end) in zip(ids, encoding.offsets, strict=True):
            span = max(first - start, 0), min(end - start, len(text))
            if span[0] < span[1] and (
                token in self._special or self._is_unknown(token, text[span[0] : span[1]])
            ):
                spans.append(span)
        return spans

    def _is_unknown(self, token: int, piece: str) -> bool:
        """Whether the token for unknown words is here because its name is spelt."""
        if token != self._unknown:
            return False
        normalizer = self._tokenizer.backend_tokenizer.normalizer
        name, piece = str(self._tokenizer.unk_token), piece.strip()
        return piece == name or (
            normalizer is not None and normalizer.normalize_str(piece) == normalizer.normalize_str(name)
        )


def _without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """`text` with a space in place of each of `spans`, which rise and do not overlap."""
    starts, ends = [0, *(end for _, end in spans)], [*(first for first, _ in spans), len(text)]
    return " ".join(text[first:end] for first, end in zip(starts, ends, strict=True))
