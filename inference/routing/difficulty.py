"""How hard a request looks, from 0 to 1: signs in its words, weighed. It is a guess at words, never at knowledge.

The weights are set by hand: what a small model is known to fail at counts for hard. They are not fitted to answers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection

_CONSTRAINTS = re.compile(
    r"\b(?:must|exactly|at least|at most|only|without|each|every|not)\b|必须|不得|至少|至多|不要|每个|恰好|仅",
    re.IGNORECASE,
)
_REASONS = re.compile(
    r"\b(?:why|how|explain|compare|analy[sz]e|prove|derive|design|plan|step by step|trade-?offs?)\b"
    r"|为什么|如何|怎么|解释|比较|分析|证明|推导|设计|规划|逐步|权衡",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_HAN = re.compile(r"[㐀-鿿]")

_BASE = -2.4
_WEIGHTS = {
    "length": 0.45,  # of the logarithm of its words
    "numbers": 0.15,  # of each, up to eight
    "constraints": 0.25,  # of each, up to six
    "reasons": 0.5,  # of each, up to four
    "depth": 0.05,  # of each turn before, up to ten
}
_TASKS = {"code": 0.9, "maths": 1.2, "tools": 0.6, "json": 0.4, "translation": 0.2, "summary": -0.2}


def score(text: str, *, turns: int = 1, tasks: Collection[str] = ()) -> float:
    """Of the last thing said, after so many turns, with these of `ask.TASKS`."""
    words = len(text.split()) + len(_HAN.findall(text)) / 2
    signs = {
        "length": math.log1p(words / 10),
        "numbers": min(len(_NUMBER.findall(text)), 8),
        "constraints": min(len(_CONSTRAINTS.findall(text)), 6),
        "reasons": min(len(_REASONS.findall(text)), 4),
        "depth": min(max(turns - 1, 0), 10),
    }
    weighed = _BASE + sum(_WEIGHTS[name] * value for name, value in signs.items())
    weighed += sum(_TASKS.get(task, 0.0) for task in tasks)
    return round(1 / (1 + math.exp(-weighed)), 3)
