"""What is found is what a scan finds: random texts in two scripts, random queries, in the index and before it.

The scan knows texts as lists of words, and nothing of how the search cuts them.
"""

import random
from collections.abc import Callable
from uuid import UUID

import pytest

from audit.search import index
from audit.search.engine import Search, iterate
from tenants.access import Actor
from tests.audit.search.conftest import say

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

ENGLISH = [
    "launder",
    "laundering",
    "launched",
    "money",
    "bank",
    "sanction",
    "embargo",
    "owner",
    "beneficial",
    "fund",
    "transfer",
    "payment",
    "café",
    "2026",
]
CHINESE = list("洗钱风险客户资金来源制裁账户实益人")
SEED = 20261128
RECORDS, QUERIES = 240, 300
BETWEEN = "|"  # What was asked and what was answered: no phrase goes from one into the other.

# A text is a list of words: (as written, what each says). Chinese ones are single characters.
Said = list[str]
Question = tuple[str, Callable[[Said], bool]]


def _text(chance: random.Random) -> Said:
    words: Said = []
    for _ in range(chance.randint(3, 14)):
        if chance.random() < 0.4:
            words += [chance.choice(CHINESE) for _ in range(chance.randint(1, 6))] + ["。"]
        else:
            words.append(chance.choice(ENGLISH))
            if chance.random() < 0.2:
                words.append(",")
    return words


def _written(words: Said, chance: random.Random) -> str:
    """With upper case, full width and gaps here and there, which must not matter."""
    written = ""
    for place, word in enumerate(words):
        if place and all(_is_word(each) and each not in CHINESE for each in (words[place - 1], word)):
            written += " "
        elif word in CHINESE and written and written[-1] in CHINESE and chance.random() < 0.05:
            written += "\n"
        written += word.upper() if chance.random() < 0.2 else _wide(word) if chance.random() < 0.05 else word
    return written


def _wide(word: str) -> str:
    return "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in word)


def _is_word(word: str) -> bool:
    return word[0].isalnum()


def _stands(phrase: Said, said: Said, *, close: bool) -> bool:
    """Whether words follow each other in a text; close: with no punctuation between."""
    for start in range(len(said)):
        found, at = 0, start
        while at < len(said) and found < len(phrase):
            if not _is_word(said[at]):
                if close or found == 0 or said[at] == BETWEEN:
                    break
            elif said[at] != phrase[found]:
                break
            else:
                found += 1
            at += 1
        if found == len(phrase):
            return True
    return False


def _question(chance: random.Random, texts: list[Said], depth: int = 0) -> Question:
    kind = chance.choice(
        ["word", "word", "chinese", "phrase", "prefix", "character", "not", "and", "or"][
            : 6 if depth > 1 else 9
        ]
    )
    if kind == "word":
        word = chance.choice(ENGLISH)
        return word, lambda said: word in said
    if kind == "character":
        character = chance.choice(CHINESE)
        return character, lambda said: character in said
    if kind == "chinese":
        run = _run(chance, texts, lambda word: word in CHINESE)
        return "".join(run), lambda said: _stands(run, said, close=True)
    if kind == "phrase":
        run = _run(chance, texts, lambda word: word.isascii() and _is_word(word))
        return f'"{" ".join(run)}"', lambda said: _stands(run, said, close=False)
    if kind == "prefix":
        beginning = chance.choice(ENGLISH)[: chance.randint(4, 7)]
        if len(beginning) < 4:
            return "bank", lambda said: "bank" in said
        return f"{beginning}*", lambda said: any(word.startswith(beginning) for word in said)
    first, is_first = _question(chance, texts, depth + 1)
    if kind == "not":
        return f"-{first}", lambda said: not is_first(said)
    second, is_second = _question(chance, texts, depth + 1)
    if kind == "and":
        return f"({first} {second})", lambda said: is_first(said) and is_second(said)
    return f"({first} OR {second})", lambda said: is_first(said) or is_second(said)


def _run(chance: random.Random, texts: list[Said], fits: Callable[[str], bool]) -> Said:
    """Words that stand together in some text."""
    while True:
        said = chance.choice(texts)
        places = [place for place, word in enumerate(said) if fits(word)]
        if not places:
            continue
        run: Said = []
        for word in said[chance.choice(places) :]:
            if not fits(word) or len(run) == 4:
                break
            run.append(word)
        return run


@pytest.mark.parametrize("indexed", [0.0, 0.5, 1.0], ids=["all waiting", "half indexed", "all indexed"])
def test_every_search_finds_what_a_scan_finds(member: Actor, reviewer: Actor, indexed: float) -> None:
    chance = random.Random(SEED + indexed)
    records = RECORDS if indexed else RECORDS // 8  # Records that wait are opened anew for each search.
    said: dict[UUID, Said] = {}
    for number in range(records):
        if number == int(records * indexed):
            index.index_waiting()
        text = _text(chance)
        answer = _text(chance) if chance.random() < 0.5 else []
        request_id = say(member, _written(text, chance), _written(answer, chance))
        said[request_id] = [*text, BETWEEN, *answer]
    if indexed == 1.0:
        index.index_waiting()
    texts = list(said.values())
    counts = []
    for _ in range(QUERIES if indexed == 1.0 else QUERIES // 4):
        text, is_asked = _question(chance, texts)
        expected = {request_id for request_id, words in said.items() if is_asked(words)}
        found = list(iterate(reviewer, Search(text)))
        assert set(found) == expected, text
        assert found == sorted(found, reverse=True), "newest first, each once"
        counts.append(len(expected))
    assert sum(count > 0 for count in counts) > len(counts) / 2, "the searches must be able to find something"
    assert min(counts) < records / 10
