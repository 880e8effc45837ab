"""Questions and answers as a bank's people write them, in English and Chinese, to fill an audit with.

Words are taken by a skewed law, as in real text: a few stand in nearly every record, most in hardly any. Names,
companies, amounts and account numbers are made up and go on without end. Everything follows from a seed.
"""

import random
import re
import tomllib
from bisect import bisect
from itertools import accumulate
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data" / "audit_texts.toml"
CHINESE = 0.35  # Of all records.
_GAP = re.compile(r"\{(\w+)\}")


class Writer:
    """Writes records one after the other."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        with DATA.open("rb") as file:
            languages = tomllib.load(file)
        self.lists = {language: _lists(told) for language, told in languages.items()}
        self._weights: dict[int, list[float]] = {}

    def record(self) -> tuple[str, str]:
        """(What was asked, what was answered)."""
        language = "zh" if self._random.random() < CHINESE else "en"
        space = " " if language == "en" else ""
        asked = [self._sentence(language, "asked") for _ in range(self._random.choice((1, 1, 1, 2, 3)))]
        answered = [self._sentence(language, "answered") for _ in range(self._random.randint(3, 9))]
        return space.join(asked), space.join(answered)

    def _sentence(self, language: str, which: str) -> str:
        template = self._random.choice(self.lists[language][which])
        return _GAP.sub(lambda gap: self._fill(language, gap.group(1)), template)

    def _fill(self, language: str, name: str) -> str:
        lists = self.lists[language]
        if name in lists:
            return self._pick(lists[name])
        return getattr(self, f"_{name}")(language)

    def _pick(self, words: list[str]) -> str:
        """The n-th word n times as seldom as the first."""
        weights = self._weights.get(len(words))
        if weights is None:
            weights = self._weights[len(words)] = list(
                accumulate(1 / rank for rank in range(1, len(words) + 1))
            )
        return words[bisect(weights, self._random.random() * weights[-1])]

    def _rank(self, most: int) -> int:
        """A number from 0, small ones more often."""
        return int(most ** self._random.random()) - 1

    def _name(self, language: str) -> str:
        lists = self.lists[language]
        if language == "zh":
            given = "".join(
                self._random.choice(lists["given"]) for _ in range(self._random.choice((1, 2, 2)))
            )
            return self._pick(lists["surnames"]) + given
        first = "".join(self._random.choice(lists["syllables"]) for _ in range(2)).title()
        return f"{first} {self._surname(self._rank(40_000))}"

    def _surname(self, number: int) -> str:
        lists = self.lists["en"]
        syllables, ends = lists["syllables"], lists["name_ends"]
        middle, first = divmod(number // len(ends), len(syllables))
        return (syllables[first] + syllables[middle % len(syllables)] + ends[number % len(ends)]).title()

    def _company(self, language: str) -> str:
        lists = self.lists[language]
        if language == "zh":
            return self._pick(lists["company_roots"]) + self._pick(lists["company_ends"])
        return f"{self._surname(self._rank(20_000))} {self._pick(lists['company_ends'])}"

    def _email(self, _language: str) -> str:
        surname = self._surname(self._rank(40_000)).lower()
        return f"{self._random.choice('abcdefghjklmnprstw')}.{surname}@{self._surname(self._rank(200)).lower()}.example"

    def _iban(self, _language: str) -> str:
        digits = f"{self._random.randrange(10**20):020}"
        grouped = " ".join(re.findall("....", f"DE{digits}"[:20])) + f" {digits[-2:]}"
        return grouped if self._random.random() < 0.6 else grouped.replace(" ", "")

    def _amount(self, language: str) -> str:
        number = int(10 ** self._random.uniform(2, 7))
        return f"{number:,} EUR" if language == "en" else f"{number:,}元"

    def _number(self, _language: str) -> str:
        return str(self._rank(60) + 1)

    def _day(self, language: str) -> str:
        month, day = self._random.randint(1, 12), self._random.randint(1, 28)
        return f"2026-{month:02}-{day:02}" if language == "en" else f"2026年{month}月{day}日"


def _lists(told: dict[str, Any]) -> dict[str, list[str]]:
    """Lists as they stand in the file: several texts, words apart by |, by spaces, or single characters."""
    return {name: value if isinstance(value, list) else _cut(name, value) for name, value in told.items()}


def _cut(name: str, text: str) -> list[str]:
    if "|" in text:
        return text.split("|")
    return list(text) if name in ("surnames", "given") else text.split()
