"""Text into the terms that an index counts.

Words of scripts with spaces are stemmed as English. Chinese gives its words, and each pair of neighbouring characters:
words alone miss what is cut otherwise in the question than in the text (and much of what is in traditional characters),
pairs alone lose what belongs together. Measured in docs/benchmarks.md.
"""

import re
import threading
import unicodedata
from collections import Counter
from functools import lru_cache

import rjieba
import Stemmer

_PIECE = re.compile(r"(?P<han>[㐀-䶿一-鿿豈-﫿]+)|(?P<word>[^\W_]+)")
_local = threading.local()


def normalise(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def terms_of(text: str) -> Counter[str]:
    """How often each term stands in the text."""
    found: Counter[str] = Counter()
    for match in _PIECE.finditer(normalise(text)):
        if match.lastgroup == "word":
            found[_stem(match.group())] += 1
        else:
            found.update(_chinese(match.group()))
    return found


def _chinese(run: str) -> list[str]:
    if len(run) == 1:
        return [run]
    words = {(start, start + len(word)): word for word, start in _cut(run) if len(word) > 1}
    pairs = {(at, at + 2): run[at : at + 2] for at in range(len(run) - 1)}
    return list({**pairs, **words}.values())


def _cut(run: str) -> list[tuple[str, int]]:
    """Words with their place; long words come with the words in them."""
    return [(word, start) for word, start, _end in rjieba.tokenize(run, "search")]


@lru_cache(200_000)
def _stem(word: str) -> str:
    if not word.isascii() or len(word) < 3 or any(letter.isdigit() for letter in word):
        return word
    return _stemmer().stemWord(word)


def _stemmer() -> Stemmer.Stemmer:
    """One a thread: they are not safe to share."""
    found = getattr(_local, "stemmer", None)
    if found is None:
        found = _local.stemmer = Stemmer.Stemmer("english")
    return found
