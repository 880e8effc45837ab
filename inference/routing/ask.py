"""What of a request its way depends on, read from the request alone: nothing is asked of a network or a model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from inference.routing import difficulty
from tenants import clock
from tenants.quotas.estimates import likely_prompt_tokens

LANGUAGES = ("zh", "en", "other")
TASKS = ("code", "maths", "translation", "summary", "tools", "json")
# Requests that begin alike share what a deployment has cached of them. The head of a longer one is enough to tell.
HEAD_CHARACTERS = 2000

_HAN = re.compile(r"[㐀-鿿豈-﫿]")
_OTHER_LETTER = re.compile(r"[^\W\d_]")
_LATIN = re.compile(r"[A-Za-z]")
_TASK_SIGNS = {
    "code": re.compile(
        r"```|\b(?:def|class|import|SELECT|function|const|#include)\b.*[({;:]|代码|函数|编程|\bpython\b|\bsql\b",
        re.IGNORECASE,
    ),
    "maths": re.compile(
        r"\d\s*[-+*/×÷^=]\s*\d|\b(?:solve|equation|integral|probability|prove)\b|计算|方程|求解|概率|证明",
        re.IGNORECASE,
    ),
    "translation": re.compile(r"\btranslat\w*|翻译|译成", re.IGNORECASE),
    "summary": re.compile(r"\bsummari[sz]\w*|\btl;?dr\b|总结|概括|摘要", re.IGNORECASE),
}


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as rules see it. tokens: of the prompt, estimated. head: what tells prompts apart that begin alike.

    wanted: the class that was asked for by name; "" leaves it to the rules.
    """

    channel: str
    tokens: int = 0
    language: str = "other"
    tasks: frozenset[str] = frozenset()
    difficulty: float = 0.0
    head: str = field(default="", repr=False)
    wanted: str = ""
    at: datetime = field(default_factory=clock.now)


def ask_of(channel: str, request: Mapping[str, Any], *, wanted: str = "", conversation: str = "") -> Ask:
    """Of a request of OpenAI's shape. A conversation keeps its head while it grows."""
    said = _texts(request)
    last = said[-1] if said else ""
    tasks = {name for name, sign in _TASK_SIGNS.items() if sign.search(last)}
    if request.get("tools"):
        tasks.add("tools")
    if (request.get("response_format") or {}).get("type") in ("json_object", "json_schema"):
        tasks.add("json")
    head = conversation or "\n".join(said)[:HEAD_CHARACTERS]
    return Ask(
        channel=channel,
        tokens=likely_prompt_tokens(request, context_tokens=10_000_000),
        language=language_of(last),
        tasks=frozenset(tasks),
        difficulty=difficulty.score(last, turns=len(said), tasks=tasks),
        head=sha256(head.encode("utf-8", "surrogatepass")).hexdigest(),
        wanted=wanted,
    )


def language_of(text: str) -> str:
    """By its letters; a Han character says about as much as a short word."""
    han, latin = len(_HAN.findall(text)), len(_LATIN.findall(text))
    if han * 4 >= latin and han:
        return "zh"
    return "en" if latin * 2 > len(_OTHER_LETTER.findall(text)) else "other"


def _texts(request: Mapping[str, Any]) -> list[str]:
    """What was said, in its order."""
    if "messages" in request:
        return [_text(message.get("content")) for message in request["messages"]]
    value = request.get("prompt", request.get("input", ""))
    return [_text(value)]


def _text(content: Any) -> str:
    """The text of a message, whose content is a text or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return "\n".join(str(part.get("text") or "") for part in content)
    return json.dumps(content, ensure_ascii=False) if content else ""
