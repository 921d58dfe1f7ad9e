"""A line with a place for a text that adds no special token, whatever it spells.

A special token spelt in a text would be a second blank or an early end. Only the tokeniser knows these spellings: it
may match a special token in any case or width, with characters left out, with spaces around, or completed by the line
around the text. So the text is tokenised in its line, and what became a special token is replaced by a space.
"""

from collections.abc import Sequence

from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

_PASSES = 8
"""Largest number of replacements: what remains of a text may spell another special token."""


def special_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens with a role, or added as special.

    The token for unknown words is not among them unless it has another role: any text may contain an unknown word.
    """
    named = [token for role, token in tokenizer.special_tokens_map.items() if role != "unk_token"]
    roles = (tokenizer.convert_tokens_to_ids(token) for token in named)
    added = {token for token, entry in tokenizer.added_tokens_decoder.items() if entry.special}
    return frozenset(token for token in roles if isinstance(token, int)) | added - {tokenizer.unk_token_id}


class Frame:
    """The parts of a line before and behind a text, for one tokeniser."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        before: str,
        behind: str = "",
        *,
        inside: bool = False,
        empty: str | None = None,
    ) -> None:
        """Tokenise the line without a text, `empty` if that is not `before` and `behind`.

        With `inside`, no line has the tokens that open and close one.
        """
        self._tokenizer, self._before, self._behind = tokenizer, before, behind
        self._opened, self._empty = not inside, before + behind if empty is None else empty
        self._unknown = tokenizer.unk_token_id
        self._special = special_ids(tokenizer)
        self._bare = self._encoded("")
        # a chat template may mark its turns by added tokens that are not special
        added = tokenizer.added_tokens_decoder.keys() - {self._unknown}
        self._special |= added & set(self.bare)
        self._own = self.specials(self.bare)

    @property
    def bare(self) -> list[int]:
        """Tokens of the line without a text."""
        return self._bare.ids

    def ids(self, text: str) -> list[int]:
        """Return the tokens of `encoding`."""
        return self.encoding(text).ids

    def encoding(self, text: str) -> Encoding:
        """Return the line with stripped `text`, a space in place of each special token it spells.

        A text that still changes the line's special tokens after all replacements is left out.
        """
        text = text.strip()
        for _ in range(_PASSES):
            encoding = self._encoded(text)
            spelt = self._spelt(encoding, text)
            if not spelt and self.specials(encoding.ids) == self._own:
                return encoding
            # nothing to replace, yet the special tokens differ: the text merged with one, so leave it out
            text = _without(text, spelt).strip() if spelt else ""
        return self._bare

    def takes(self, text: str) -> bool:
        """Return whether the tokeniser still recognises the line's own special tokens with `text` beside them."""
        return len(self.specials(self._encoded(text).ids)) >= len(self._own)

    def ends(self, text: str) -> list[int]:
        """Return the character positions in `text` where tokens that are not special end."""
        encoding = self._tokenizer(text, add_special_tokens=False).encodings[0]
        return [
            end
            for token, (_, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if token not in self._special
        ]

    def specials(self, ids: Sequence[int]) -> list[int]:
        """Return the special tokens among `ids`, in order."""
        return [token for token in ids if token in self._special]

    def _encoded(self, text: str) -> Encoding:
        line = self._before + text + self._behind if text else self._empty
        encoding: Encoding = self._tokenizer(line, add_special_tokens=self._opened).encodings[0]
        return encoding

    def _spelt(self, encoding: Encoding, text: str) -> list[tuple[int, int]]:
        """Return the spans (first, end) of `text` that became special tokens of the line, or parts of them."""
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
        """Return whether `token` is the one for unknown words and `piece` spells its name."""
        if token != self._unknown:
            return False
        normalizer = self._tokenizer.backend_tokenizer.normalizer
        name, piece = str(self._tokenizer.unk_token), piece.strip()
        return piece == name or (
            normalizer is not None and normalizer.normalize_str(piece) == normalizer.normalize_str(name)
        )


def tokens_before(encoding: Encoding, place: int) -> int:
    """Return the number of tokens that end at or before character `place`; one across it is behind it."""
    return sum(end <= place for _, end in encoding.offsets)


def _without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return `text` with a space in place of each of `spans`, which ascend and do not overlap."""
    starts, ends = [0, *(end for _, end in spans)], [*(first for first, _ in spans), len(text)]
    return " ".join(text[first:end] for first, end in zip(starts, ends, strict=True))
