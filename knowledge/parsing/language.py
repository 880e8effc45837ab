"""In which language a text is written, as far as searching and citing it depends on that."""

import re

_HAN = re.compile("[㐀-䶿一-鿿豈-﫿]")
_KANA_OR_HANGUL = re.compile("[぀-ヿ가-힯]")
_LATIN = re.compile("[A-Za-z]")
# Of the letters, the share from which on a text counts as Chinese: terms of art in it are often Latin.
_CHINESE_FROM = 0.15
_ENGLISH = re.compile(
    r"\b(?:the|of|and|to|in|is|are|for|that|with|what|who|when|how|which|a|an|on|by|or|as|be|must|shall)\b",
    re.IGNORECASE,
)


def language_of(text: str) -> str:
    """ "zh", "en" or "other". Of a text in two, the one that searching it needs: Chinese where there is some of it."""
    sample = text[:20_000]
    han, other = len(_HAN.findall(sample)), len(_KANA_OR_HANGUL.findall(sample))
    latin = len(_LATIN.findall(sample))
    if other > han / 4:
        return "other"
    if han and han / (han + latin / 5) >= _CHINESE_FROM:
        return "zh"
    # A few words may be of any language; they are taken for English, the only other one with a model of its own.
    return "en" if latin and (latin < 200 or _ENGLISH.search(sample)) else "other"
