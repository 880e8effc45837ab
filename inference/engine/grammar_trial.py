"""Compiles one grammar from standard input, to see in a process of its own that it can be done.

Prints how many bytes that took, and on the next line why not. No limit of the library covers everything a hostile schema can make it do, and a
thread cannot be stopped; the system stops this process. Run by `grammar`; imports nothing of ours.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

CPU_SECONDS = 1
MEMORY_BYTES = 1 << 30


def parser_limits() -> LLParserLimits:
    """At most some 10 ms for a mask, and 40 MB for what a request's parser remembers."""
    return LLParserLimits(
        step_lexer_fuel=100_000,
        step_max_items=20_000,
        max_lexer_states=20_000,
        max_grammar_size=100_000,
        verbose_errors=False,
    )


def failure(matcher: LLMatcher) -> str:
    """Why no token can be found by this grammar; "" when some can."""
    if not matcher.is_error():
        matcher.compute_bitmask()
    return matcher.get_error()


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    grammar, tokenizer = sys.stdin.read(), LLTokenizer("byte")
    before = _most_memory()
    reason = failure(LLMatcher(tokenizer, grammar, log_level=0, limits=parser_limits()))
    print(_most_memory() - before, reason, sep="\n")


def _most_memory() -> int:
    """Bytes that this process has had at most until now."""
    if sys.platform == "linux":  # Where getrusage tells what the parent had, if that was more.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
