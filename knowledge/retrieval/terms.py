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

# Words that stand in a question and say nothing of what it is about. Texts keep theirs: they cost little there.
_COMMON = frozenset(
    [
        "a",
        "about",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "been",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "me",
        "my",
        "no",
        "not",
        "of",
        "on",
        "or",
        "our",
        "shall",
        "should",
        "so",
        "some",
        "such",
        "tell",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "to",
        "under",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "whom",
        "whose",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
        "ani",
        "doe",
        "hi",
        "thi",
        "whi",
    ]
) | frozenset(
    [
        "的",
        "了",
        "在",
        "是",
        "和",
        "与",
        "或",
        "及",
        "对",
        "由",
        "被",
        "把",
        "其",
        "之",
        "有",
        "也",
        "就",
        "都",
        "而",
        "为",
        "于",
        "以",
        "吗",
        "呢",
        "啊",
        "吧",
        "我",
        "你",
        "他",
        "她",
        "它",
        "请",
        "问",
    ]
)
# Cut out before the rest is cut into words and pairs: a pair across them says nothing either.
_ASKING = re.compile(
    "什么时候|什麼時候|什么|什麼|哪一年|哪年|哪些|哪个|哪個|哪里|哪裡|哪儿|哪位|哪|谁|誰|为什么|為什麼|为何|為何|怎么样|怎么|怎麼|"
    "怎样|怎樣|如何|多少|多久|几个|幾個|是否|有没有|有沒有|请问|請問|告诉我|吗|嗎|呢|吧|"
    r"\bhow (?:many|much|long|often|far|old|soon)\b"
)


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


def asked_terms(question: str) -> list[str]:
    """The terms that a question is about, each once: without those that only make it one, as "who" and "什么"."""
    return [term for term in terms_of(_ASKING.sub(" ", normalise(question))) if term not in _COMMON]


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
