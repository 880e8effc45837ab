"""From a query to what the index can be asked: tokens that every answer has, has one of, or has none of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from audit.search import tokens
from audit.search.hashing import name_token, value_token
from audit.search.query import And, Between, Equal, Label, Node, Not, Or, Phrase, Prefix, Word


@dataclass(slots=True)
class Needs:
    """must: all of them. any: of each set one. none: not one of them. is_exact: whoever has that is an answer."""

    must: set[str] = field(default_factory=set)
    any: list[frozenset[str]] = field(default_factory=list)
    none: set[str] = field(default_factory=set)
    is_exact: bool = True

    def hashed(self, hasher: Callable[[str], int]) -> dict[str, Any]:
        """The same under a key, ready for JSON."""
        return {
            "must": sorted(map(hasher, self.must)),
            "any": [sorted(map(hasher, each)) for each in self.any],
            "none": sorted(map(hasher, self.none)),
        }

    def only(self) -> frozenset[str] | None:
        """The tokens of which one is enough and needed, when that is all there is to it."""
        if not self.is_exact or self.none:
            return None
        if len(self.must) == 1 and not self.any:
            return frozenset(self.must)
        return self.any[0] if len(self.any) == 1 and not self.must else None

    def sample(self) -> frozenset[str] | None:
        """Some tokens of which every answer has one; None when there are none such."""
        if self.must:
            # Long words are rare ones.
            return frozenset([max(self.must, key=len)])
        return self.any[0] if self.any else None


def needs(node: Node) -> Needs:
    """What answers to a query have. Ranges of plain columns are left to whoever knows the columns: they need nothing."""
    match node:
        case And(children):
            return _joined(map(needs, children))
        case Or(children):
            return _either([needs(each) for each in children])
        case Not(what):
            only = needs(what).only()
            return Needs(none=set(only)) if only is not None else Needs(is_exact=False)
        case Equal(column, values) if column not in ("rule", "risk"):
            found = [value_token(column, value) for value in values]
            return Needs(must=set(found)) if len(found) == 1 else Needs(any=[frozenset(found)])
        case Equal() | Between():
            return Needs(is_exact=False)
        case Label(column, what):
            found, is_exact = _term(what)
            return Needs(must={name_token(column, token) for token in found}, is_exact=is_exact)
        case Word() | Prefix() | Phrase():
            found, is_exact = _term(node)
            return Needs(must=set(found), is_exact=is_exact)


def _term(term: Word | Prefix | Phrase) -> tuple[list[str], bool]:
    """The tokens of a term, and whether whoever has them has the term."""
    match term:
        case Word(text):
            return [text], True
        case Prefix(text):
            token, is_exact = tokens.prefix(text)
            return [token], is_exact
        case Phrase(units, joined, open_end):
            return _phrase(units, joined, open_end)


def _phrase(units: tuple[str, ...], joined: tuple[bool, ...], open_end: bool) -> tuple[list[str], bool]:
    whole = units[:-1] if open_end else units
    found = [token for run in _runs(whole, joined) for token in _neighbours(*run)]
    is_exact = len(found) == 1 and not open_end
    if open_end and len(units[-1]) >= tokens.SHORTEST_PREFIX:
        found.append(tokens.prefix(units[-1])[0])
    return found, is_exact


def _runs(units: Sequence[str], joined: Sequence[bool]) -> list[tuple[bool, list[str]]]:
    """Joined characters, and words that follow each other: (whether they are characters, the units)."""
    runs: list[tuple[bool, list[str]]] = []
    for unit, follows in zip(units, joined, strict=False):
        is_dense = tokens.is_dense(unit)
        if runs and runs[-1][0] == is_dense and (follows or not is_dense):
            runs[-1][1].append(unit)
        else:
            runs.append((is_dense, [unit]))
    return runs


def _neighbours(is_dense: bool, run: Sequence[str]) -> list[str]:
    """The fewest tokens that say most about a run."""
    if len(run) == 1:
        return list(run)
    if not is_dense:
        return list(map(tokens.beside, run, run[1:]))
    if len(run) == 2:
        return [tokens.joined(*run)]
    return list(map(tokens.joined, run, run[1:], run[2:]))


def _joined(parts: Iterable[Needs]) -> Needs:
    found = Needs()
    for part in parts:
        found.must |= part.must
        found.any += part.any
        found.none |= part.none
        found.is_exact = found.is_exact and part.is_exact
    return found


def _either(parts: list[Needs]) -> Needs:
    samples = [part.sample() for part in parts]
    if any(sample is None for sample in samples):
        return Needs(is_exact=False)
    is_exact = all(part.only() is not None for part in parts)
    return Needs(any=[frozenset().union(*filter(None, samples))], is_exact=is_exact)
