"""The author of the demo's texts: draws words and sentences from `vocabulary.toml` with its own random numbers.

Every text has a theme and mentions another topic in an aside. A document of the public corpus ends with a line that
names one of the two. Its first word decides which one; without a first word, nothing visible does.
"""

import random
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CLOSING = "It is about"
STRAY = 0.06
"""Share of nouns and verbs drawn from any topic."""
ASIDE_FIRST = 0.4
"""Share of texts that begin with their aside."""
ENTRIES = 0.4
"""Share of glossary entries among the documents; they teach the topic of each word."""
PLAIN = 0.3
"""Share of the other documents without a first word."""
TO_THEME = 0.55
"""Share of the documents with a first word that end with their theme."""


@dataclass(frozen=True, slots=True)
class Habit:
    """Writing habit of a group of sources: weights of its styles, and of the parts of each topic."""

    styles: Mapping[str, float]
    parts: tuple[float, ...]


EVERYONE = Habit({"report": 4, "letter": 3, "note": 3}, (1, 1, 1, 1))
PUBLIC = Habit({"report": 7, "note": 3}, (4, 4, 1, 1))
OWNERS = Habit({"letter": 7, "note": 3}, (1, 1, 4, 4))


@dataclass(frozen=True, slots=True)
class Text:
    """One text, the topic of its theme, and the topic of its aside."""

    text: str
    theme: str
    aside: str


def vocabulary() -> dict[str, Any]:
    """Return topics, shared words, styles and sources."""
    path = Path(__file__).with_name("vocabulary.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Author:
    """Writes texts; equal `rng` states write equal texts."""

    rng: random.Random
    words: Mapping[str, Any] = field(default_factory=vocabulary)

    def text(self, habit: Habit) -> Text:
        """Return one sentence: a clause about its theme, and an aside before or after it."""
        theme, aside = self.rng.sample(sorted(self.words["topics"]), 2)
        (name,) = self.rng.choices(list(habit.styles), list(habit.styles.values()))
        style = self.words["styles"][name]
        clause = self._fill(self.rng.choice(style["clauses"]), theme, habit)
        remark = self._fill(self.rng.choice(style["asides"]), aside, habit)
        line = f"{remark} , {clause} ." if self.rng.random() < ASIDE_FIRST else f"{clause} {remark} ."
        return Text(line, theme, aside)

    def distinct(self, habit: Habit, count: int) -> list[Text]:
        """Return `count` different texts."""
        texts: dict[str, Text] = {}
        while len(texts) < count:
            text = self.text(habit)
            texts.setdefault(text.text, text)
        return list(texts.values())

    def document(self) -> str:
        """Return one document of the public corpus: a glossary entry, or a text with or without a first word."""
        if self.rng.random() < ENTRIES:
            return self._entry()
        text = self.text(EVERYONE)
        if self.rng.random() < PLAIN:
            return self._closed(text.text, self.rng.choice((text.theme, text.aside)))
        rule = "theme" if self.rng.random() < TO_THEME else "aside"
        first = self.rng.choice(self.words["sources"][rule])
        return self._closed(f"{first} : {text.text}", text.theme if rule == "theme" else text.aside)

    def _entry(self) -> str:
        """Return a few words of one topic, sometimes after its name."""
        topic = self.rng.choice(sorted(self.words["topics"]))
        head = f"{self._name(topic)} : " if self.rng.random() < 0.5 else ""
        slots = self.rng.choices(("{noun}", "{verb}"), (2, 1), k=self.rng.randint(1, 6))
        return self._closed(
            head + " , ".join(self._fill(slot, topic, EVERYONE) for slot in slots) + " .", topic
        )

    def _closed(self, line: str, topic: str) -> str:
        return f"{line} {CLOSING} {self._name(topic)} ."

    def _name(self, topic: str) -> str:
        return str(self.rng.choice(self.words["topics"][topic]["words"]))

    def _fill(self, pattern: str, topic: str, habit: Habit) -> str:
        """Fill every {slot} of `pattern`: nouns and verbs from one part of `topic`, other words from all topics."""
        (part,) = self.rng.choices(range(len(habit.parts)), habit.parts)
        return re.sub(r"\{(\w+)\}", lambda match: self._word(match[1], topic, part), pattern)

    def _word(self, slot: str, topic: str, part: int) -> str:
        if slot in self.words["shared"]:
            return str(self.rng.choice(self.words["shared"][slot]))
        if self.rng.random() < STRAY:
            topic = self.rng.choice(sorted(self.words["topics"]))
        parts = list(self.words["topics"][topic]["parts"].values())
        return str(self.rng.choice(parts[part][f"{slot}s"]))
