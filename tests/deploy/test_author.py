import random
from collections import Counter

from deploy.author import EVERYONE, OWNERS, PUBLIC, Author


def test_equal_random_states_write_equal_texts():
    first, second = (Author(random.Random("a")) for _ in range(2))
    assert [first.document() for _ in range(50)] == [second.document() for _ in range(50)]


def test_every_slot_of_every_pattern_is_filled():
    author = Author(random.Random(0))
    texts = [author.text(habit).text for habit in (EVERYONE, OWNERS, PUBLIC) for _ in range(500)]
    texts += [author.document() for _ in range(500)]
    assert not [text for text in texts if "{" in text or "}" in text]


def test_the_words_of_a_text_tell_both_its_topics():
    author = Author(random.Random(0))
    topics = author.words["topics"]
    own = {
        name: {word for part in topic["parts"].values() for words in part.values() for word in words}
        for name, topic in topics.items()
    }
    for text in author.distinct(OWNERS, 300):
        counts = Counter(name for name in own for word in text.text.split() if word in own[name])
        assert text.theme != text.aside
        assert counts.total() >= 3
    themes = Counter(text.theme for text in author.distinct(OWNERS, 2000))
    assert min(themes.values()) > 400


def test_a_first_word_settles_what_the_closing_line_names():
    author = Author(random.Random(0))
    names = {word: name for name, topic in author.words["topics"].items() for word in topic["words"]}
    nouns = {
        noun: name
        for name, topic in author.words["topics"].items()
        for part in topic["parts"].values()
        for noun in part["nouns"]
    }
    named = Counter()
    for _ in range(6000):
        words = author.document().split()
        rule = next((rule for rule, firsts in author.words["sources"].items() if words[0] in firsts), None)
        topics = Counter(nouns[word] for word in words if word in nouns).most_common()
        if rule and len(topics) == 2 and topics[0][1] > topics[1][1]:
            named[rule, names[words[-2]] == topics[0][0]] += 1
    assert named["theme", True] > 5 * named["theme", False]
    assert named["aside", False] > 5 * named["aside", True]
