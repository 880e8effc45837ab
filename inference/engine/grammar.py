"""Answers that follow a form: JSON, JSON by a schema, and tool calls. Knows no torch.

A thin layer over llguidance (docs/decisions/0009-constrained-decoding.md), which tells for each
step which tokens can go on to a whole answer. A `GrammarCompiler` serves a model, a `Grammar` what
was asked for, a `Matcher` one answer.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from weakref import WeakSet

import llguidance.hf
import numpy as np
from llguidance import LLMatcher, LLTokenizer

from inference.engine import grammar_trial
from inference.engine.errors import EngineError, QueueFull

logger = logging.getLogger("custos.inference.grammar")

MAX_SCHEMA_BYTES = 64 * 1024  # Of one schema as JSON, and of all tools' schemas together.
_CACHED_GRAMMARS = 128
_MOST_BYTES = (
    512 * 2**20
)  # Of all grammars there are, remembered or in use; one alone may take a hundred million.
_TRIALS_AT_ONCE = 2
_TRIAL_SECONDS = 10.0  # On the clock: the trial's own limit is in processor time.

# As strict as can be: what the library cannot promise is refused, not ignored. Space between tokens
# is bounded, or a weak model fills the whole answer with it. A client's own options are overridden.
_JSON_OPTIONS = {
    "item_separator": ",",
    "key_separator": ":",
    "whitespace_flexible": True,
    "whitespace_pattern": r"[ \t\r\n]{1,32}",
    "coerce_one_of": False,
    "lenient": False,
}


class InvalidSchema(EngineError):
    """The schema is wrong, too large, or uses what cannot be guaranteed; the message says which."""

    code = "invalid_schema"


class UnsupportedTokenizer(EngineError):
    """No answer of this model can be constrained."""

    code = "unsupported_tokenizer"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call. `parameters` is the JSON schema of its arguments."""

    name: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolMarkers:
    """What stands around a call's JSON. The default is what Qwen and Hermes models are trained on."""

    begin: str = "<tool_call>\n"
    end: str = "\n</tool_call>"


class Ends:
    """The tokens that end an answer, and the mask that allows nothing else."""

    def __init__(self, token_ids: frozenset[int], vocabulary: int) -> None:
        self.token_ids = token_ids
        bits = np.zeros(vocabulary, np.uint8)
        bits[list(token_ids)] = 1
        self.mask = np.packbits(bits, bitorder="little")


class Matcher:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: LLMatcher, ends: Ends) -> None:
        self._matcher = matcher
        self._ends = ends
        self._ended = 0  # How many end tokens were accepted; the library does not see them.
        self._is_stuck = False  # No token at all may follow.

    @property
    def is_complete(self) -> bool:
        """The answer so far is a whole one."""
        return self._ended > 0 or self._matcher.is_accepting()

    @property
    def must_end(self) -> bool:
        """Nothing can follow: the answer is whole, or its grammar takes more work than it may."""
        return self._ended > 0 or self._is_stuck or self._matcher.is_stopped()

    def mask(self) -> np.ndarray:
        """(⌈T / 8⌉,) uint8: bit i % 8 of byte i // 8 is set if token i may follow. Never empty.

        An end token may when the answer is complete, and when nothing else may.
        """
        if not self.must_end:
            mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)[: len(self._ends.mask)]
            if self._matcher.is_error():
                logger.warning("A grammar grew too complex to go on; its answer ends here.")
            elif mask.any():
                return mask
            else:
                self._is_stuck = True
        return self._ends.mask

    def accept(self, token: int) -> bool:
        """The answer goes on with `token`; False, and nothing is done, where it may not."""
        if token in self._ends.token_ids:
            allowed = self.is_complete or self.must_end
            self._ended += allowed
            return allowed
        return not self._ended and self._matcher.try_consume_tokens([token]) == 1

    def rollback(self, count: int) -> None:
        """Take back the last `count` accepted tokens."""
        self._is_stuck = False
        ends = min(count, self._ended)
        self._ended -= ends
        if count > ends:
            self._matcher.rollback(count - ends)


class Grammar:
    """Compiled, never changed, shared by requests."""

    def __init__(self, template: LLMatcher, ends: Ends, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        self._template = template
        self._ends = ends

    def matcher(self) -> Matcher:
        """At the beginning of an answer."""
        return Matcher(self._template.deep_copy(), self._ends)


class GrammarCompiler:
    """Grammars for one model, remembered. Thread-safe; each method may block for seconds.

    All raise InvalidSchema, or QueueFull when too many others compile. `tokenizer` is a fast one
    of transformers; UnsupportedTokenizer is raised where its kind or the end tokens do not serve.
    """

    def __init__(self, tokenizer: Any, eos_token_ids: Iterable[int]) -> None:
        ends = frozenset(i for i in eos_token_ids if i < len(tokenizer))
        if not ends:
            raise UnsupportedTokenizer("The model has no end token, so constrained answers could not end.")
        try:
            self._tokenizer: LLTokenizer = llguidance.hf.from_tokenizer(tokenizer, eos_token=sorted(ends))
        except Exception as error:
            raise UnsupportedTokenizer(
                f"This model's tokenizer allows no constrained answers: {error}"
            ) from error
        self._ends = Ends(ends, self._tokenizer.vocab_size)
        self._special = {
            str(token): i for i, token in tokenizer.added_tokens_decoder.items() if token.special
        }
        self._remembered: OrderedDict[bytes, Grammar | str] = OrderedDict()
        self._alive: WeakSet[Grammar] = WeakSet()  # Those remembered, and those that requests still hold.
        self._lock = threading.Lock()  # Guards both.
        self._trials = threading.BoundedSemaphore(_TRIALS_AT_ONCE)

    def json_object(self) -> Grammar:
        """Any JSON object."""
        return self.json_schema({"type": "object"})

    def json_schema(self, schema: dict[str, Any]) -> Grammar:
        """JSON that `schema` accepts."""
        return self._compile([{"json_schema": _checked_schema(schema)}])

    def tool_calls(
        self,
        tools: Sequence[Tool],
        *,
        required: bool = False,
        name: str | None = None,
        parallel: bool = True,
        markers: ToolMarkers = ToolMarkers(),
    ) -> Grammar:
        """Calls as {"name": …, "arguments": …} between markers, the arguments by their tool's schema.

        Free text with calls in it, unless `required`: then nothing but calls, at least one; and
        with `name` exactly one, of that tool. Unless `parallel`, the answer ends with its first call.
        """
        wanted = [tool for tool in tools if name is None or tool.name == name]
        if not wanted:
            raise InvalidSchema(f"No tool is named {name}." if name else "There is no tool to call.")
        schemas = [_checked_schema(tool.parameters) for tool in wanted]
        _check_size(schemas)
        lark = self._tool_rules(
            wanted, markers, text=not (required or name), several=parallel and name is None
        )
        parts = [{"name": f"arguments_{at}", "json_schema": schema} for at, schema in enumerate(schemas)]
        return self._compile([{"name": "calls", "lark_grammar": lark}, *parts])

    def _tool_rules(self, tools: Sequence[Tool], markers: ToolMarkers, *, text: bool, several: bool) -> str:
        """The rules of a call, and how many there are among what text, in llguidance's Lark."""
        calls = [
            f'{_quoted(f"""{{"name": {_quoted(tool.name)}, "arguments": """)} @arguments_{at} "}}"'
            for at, tool in enumerate(tools)
        ]
        rules = [f"call: {' | '.join(calls)}", f"end: {self._marker(markers.end)}"]
        begin = self._marker(markers.begin)
        if not text:
            more = '("\\n"? one)*' if several else ""
            return "\n".join([f"start: one {more}", f"one: {begin} call end", *rules])
        # The text runs up to the first marker there is: a lazy rule, or a token that is no text.
        special = begin.startswith("<[")
        trigger, rest = (begin, "") if special else self._trigger(markers.begin)
        rules += ["open: TEXT " + trigger if special else f"open[lazy]: TEXT {trigger}", "TEXT: /(.|\\n)*/"]
        start = "one* TEXT" if several else "one | TEXT"
        return "\n".join([f"start: {start}", f"one: open {rest} call end", *rules])

    def _trigger(self, begin: str) -> tuple[str, str]:
        """A marker's text as what ends free text, and the space after it, which the call begins with."""
        trigger = begin.rstrip()
        return self._marker(trigger), _quoted(begin[len(trigger) :]) if trigger != begin else ""

    def _marker(self, text: str) -> str:
        """As Lark: special tokens by their number, as no text spells them, and the rest as strings."""
        parts: list[str] = []
        while text:
            special = [(text.find(token), -len(token), token) for token in self._special if token in text]
            at, _, token = min(special, default=(len(text), 0, ""))
            if at:
                parts.append(_quoted(text[:at]))
            if token:
                parts.append(f"<[{self._special[token]}]>")
            text = text[at + len(token) :]
        return " ".join(parts)

    def _compile(self, grammars: list[dict[str, Any]]) -> Grammar:
        text = json.dumps({"grammars": grammars})
        digest = sha256(text.encode()).digest()
        found = self._recall(digest)
        if found is None:
            if not self._trials.acquire(timeout=_TRIAL_SECONDS):
                raise QueueFull(retry_after=int(_TRIAL_SECONDS))
            try:
                found = self._recall(digest) or self._try(text)
            finally:
                self._trials.release()
            self._remember(digest, found)
        if isinstance(found, str):
            raise InvalidSchema(found)
        return found

    def _remember(self, digest: bytes, found: Grammar | str) -> None:
        """In place of the longest unused, as far as number and memory ask for it.

        Raises QueueFull when what requests hold leaves no room.
        """
        with self._lock:
            if isinstance(found, Grammar):
                self._alive.add(found)
            while self._remembered and (len(self._remembered) >= _CACHED_GRAMMARS or self._is_too_much()):
                self._remembered.popitem(last=False)
            if self._is_too_much():
                raise QueueFull(retry_after=int(_TRIAL_SECONDS))
            self._remembered[digest] = found

    def _is_too_much(self) -> bool:
        return sum(grammar.num_bytes for grammar in self._alive) > _MOST_BYTES

    def _recall(self, digest: bytes) -> Grammar | str | None:
        with self._lock:
            if digest in self._remembered:
                self._remembered.move_to_end(digest)
            return self._remembered.get(digest)

    def _try(self, text: str) -> Grammar | str:
        """The grammar, or why there is none: what failed is remembered, too, and costs nothing again."""
        num_bytes, reason = _trial(text)
        if not reason:
            template = LLMatcher(self._tokenizer, text, log_level=0, limits=grammar_trial.parser_limits())
            # With a first mask, whose tables all copies then have.
            reason = grammar_trial.failure(template)
            if not reason:
                return Grammar(template, self._ends, num_bytes)
        return f"The schema cannot be followed: {reason.splitlines()[0][:300]}"


def _trial(text: str) -> tuple[int, str]:
    """Bytes that compiling the grammar `text` takes; why it cannot be in reasonable time, "" if it can."""
    too_much = f"compiling it takes more than {grammar_trial.CPU_SECONDS} s or too much memory; simplify it."
    command = [sys.executable, "-P", str(Path(grammar_trial.__file__))]
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=_TRIAL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:  # The machine is busy, which says nothing of the schema.
        raise QueueFull(retry_after=int(_TRIAL_SECONDS)) from error
    if done.returncode:
        logger.warning("The trial of a grammar ended with %d: %s", done.returncode, done.stderr[-500:])
        return 0, too_much
    num_bytes, _, reason = done.stdout.partition("\n")
    return int(num_bytes), reason.strip()


def _checked_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """With our options in place of any in it. Raises InvalidSchema when it is no object, or too large."""
    if not isinstance(schema, dict):
        raise InvalidSchema("A schema must be a JSON object.")
    _check_size(schema)
    return {**schema, "x-guidance": _JSON_OPTIONS}


def _check_size(schema: Any) -> None:
    try:
        size = len(json.dumps(schema, ensure_ascii=False).encode())
    except (RecursionError, TypeError, ValueError) as error:
        raise InvalidSchema(f"The schema cannot be written as JSON: {error}.") from error
    if size > MAX_SCHEMA_BYTES:
        raise InvalidSchema(f"The schema has {size} bytes; at most {MAX_SCHEMA_BYTES} are allowed.")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
