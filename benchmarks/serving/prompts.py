"""What is asked: made from seeds, the same for every server and new in every round, so that no cache helps by accident."""

from __future__ import annotations

import random
from typing import Any

# Words of one token each in most vocabularies (with the space before them).
_TEXT = (
    "account bank bridge city cloud coast corner country court customer day door early evening family farm field "
    "fire forest garden glass green ground harbor heart hill history house island kitchen lake land large letter "
    "light long market master memory mile moment money morning mountain music night north ocean office old open "
    "paper path people place plain policy power price quiet rain record report river road room round salt school "
    "season secret ship short silver small snow song south spring station stone storm story street summer table "
    "time tower town trade train travel tree trust valley village wall water west white wind window winter wood"
)
_WORDS = _TEXT.split()
_TOPICS = (
    "a river",
    "a bank clerk",
    "two ships",
    "an old bridge",
    "the harvest",
    "a quiet town",
    "a long winter",
)
_TOKENS_A_SENTENCE = 12


def passage(tokens: int, *, seed: object) -> str:
    """About `tokens` tokens of sentences that nobody would cache by chance."""
    source = random.Random(str(seed))
    sentences = []
    for _ in range(max(1, tokens // _TOKENS_A_SENTENCE)):
        words = [source.choice(_WORDS) for _ in range(_TOKENS_A_SENTENCE - 1)]
        sentences.append(" ".join(words).capitalize() + ".")
    return " ".join(sentences)


def question(*, seed: object) -> str:
    """A short prompt whose answer is long."""
    source = random.Random(str(seed))
    return (
        f"{source.choice(_WORDS)} {source.choice(_WORDS)}: write a long story about {source.choice(_TOPICS)}."
    )


def chat(*messages: tuple[str, str], max_tokens: int) -> dict[str, Any]:
    """A greedy request that streams and goes on to `max_tokens` whatever the model would rather do."""
    return {
        "messages": [{"role": role, "content": content} for role, content in messages],
        "max_tokens": max_tokens,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }
