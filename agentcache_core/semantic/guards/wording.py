"""The guard over words that have no counterpart: what cannot be explained is not the same question."""

from __future__ import annotations

from .lexicon import synonyms
from .pair import Pair, soft
from .quantities import UNITS
from .reading import Reading, Token
from .stems import stem
from .words import VERBS

# Number words that may come and go ("one of", "at first") when no other number stands against them.
_FREE_NUMBERS = frozenset(["one", "zero"])


def wording(pair: Pair) -> str | None:
    """No content word is put in, left out or replaced, apart from synonyms, fillers and slips of the pen."""
    facing = {id(t) for two in pair.opposed for t in two}  # the direction guard judges these
    left_a = _unexplained([t for t in pair.only_a if id(t) not in facing], pair.b)
    left_b = _unexplained([t for t in pair.only_b if id(t) not in facing], pair.a)
    if not left_a and not left_b:
        return _verbs(pair)
    if left_a and left_b:
        return f"“{' '.join(left_a)}” is replaced by “{' '.join(left_b)}”"
    return f"“{' '.join(left_a or left_b)}” stands in one text only"


def _verbs(pair: Pair) -> str | None:
    """One filling verb in the place of another: "do you know" against "do you like"."""
    one = [w for w in pair.a.words if w in VERBS and w not in pair.b.wordset]
    other = [w for w in pair.b.words if w in VERBS and w not in pair.a.wordset]
    if one and other and not any(stem(x) == stem(y) or synonyms(stem(x), stem(y)) for x in one for y in other):
        return f"“{one[0]}” is replaced by “{other[0]}”"
    return None


def _unexplained(tokens: list[Token], other: Reading) -> list[str]:
    return [
        t.low
        for t in tokens
        if not soft(t)
        and t.key not in other.forms
        and t.low not in other.wordset
        and not (t.kind == "number" and t.low in _FREE_NUMBERS)
        and not (t.low in UNITS and UNITS[t.low] in {unit for _, unit, _ in other.numbers})
        and t.kind != "literal"
    ]
