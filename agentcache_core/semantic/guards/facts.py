"""Guards over facts that must be equal to the letter: numbers, dates and times, literals, quoted strings, names."""

from __future__ import annotations

from . import words as w
from .pair import Pair
from .reading import Reading

# "16" and "16th", "the 1990" and "the 1990s" may stand for each other; "5" and "5 km" may not.
_FREE_UNITS = frozenset(["", "ordinal", "decade", "date", "time"])


def numbers(pair: Pair) -> str | None:
    """Every number, with its unit, stands in both texts."""
    a, b = pair.a.numbers, pair.b.numbers
    if not a and not b:
        return None
    missing_a = _unmatched(a, b)
    missing_b = _unmatched(b, a)
    hard = [n for n in (*missing_a, *missing_b) if not n[2]]
    if hard:
        return f"{_written(missing_a) or 'no number'} against {_written(missing_b) or 'no number'}"
    if missing_a and missing_b:
        return f"{_written(missing_a)} against {_written(missing_b)}"
    units_a: dict[str, set[str]] = {}
    units_b: dict[str, set[str]] = {}
    for value, unit, _ in a:
        units_a.setdefault(value, set()).add(unit)
    for value, unit, _ in b:
        units_b.setdefault(value, set()).add(unit)
    for value, units in units_a.items():
        other = units_b.get(value, units)
        if units != other and not (units <= _FREE_UNITS and other <= _FREE_UNITS):
            return f"{value} {'/'.join(sorted(units))} against {value} {'/'.join(sorted(other))}"
    return None


def _unmatched(
    one: tuple[tuple[str, str, bool], ...], other: tuple[tuple[str, str, bool], ...]
) -> list[tuple[str, str, bool]]:
    values = {value for value, _, _ in other}
    return [number for number in one if number[0] not in values]


def _written(numbers: list[tuple[str, str, bool]]) -> str:
    return ", ".join(f"{value} {unit}".strip() for value, unit, _ in numbers)


def times(pair: Pair) -> str | None:
    """Weekdays, months, seasons, today / tomorrow, last / next stand in both texts."""
    left_a = [t.low for t in pair.only_a if t.low in w.TIME_WORDS or t.low in w.RELATIVE_TIME]
    left_b = [t.low for t in pair.only_b if t.low in w.TIME_WORDS or t.low in w.RELATIVE_TIME]
    if left_a or left_b:
        return f"{' '.join(left_a) or 'no such time'} against {' '.join(left_b) or 'no such time'}"
    return None


def literals(pair: Pair) -> str | None:
    """Ids, versions, e-mail addresses, URLs, paths, file names and code stand in both texts, to the letter."""
    if pair.a.literals == pair.b.literals:
        return None
    one = {_bare(x): x for x in pair.a.literals}
    other = {_bare(x): x for x in pair.b.literals}
    left_a = [x for k, x in one.items() if k not in other and not _spelled(k, pair.b)]
    left_b = [x for k, x in other.items() if k not in one and not _spelled(k, pair.a)]
    if left_a or left_b:
        one_list, other_list = (", ".join(x[1:] for x in sorted(left)) or "none" for left in (left_a, left_b))
        return f"{one_list} against {other_list}"
    return None


def _bare(literal: str) -> str:
    if any(mark in literal for mark in "/@\\()` "):
        return literal
    return (
        literal.replace("-", "").replace("_", "")
        if any(c.isdigit() for c in literal)
        else literal.replace(".", "").replace("-", "")
    )


def _spelled(bare: str, reading: Reading) -> bool:
    """Whether a literal such as "gpt4" is written in two words ("GPT 4") in the other text."""
    lows = [t.low for t in reading.tokens]
    return any(lows[i] + lows[i + 1] == bare[1:] for i in range(len(lows) - 1)) or bare[1:] in lows


def quoted(pair: Pair) -> str | None:
    """What one text quotes stands, word for word, in the other."""
    for here, there in ((pair.a, pair.b), (pair.b, pair.a)):
        for text in here.quoted:
            if text not in there.quoted and " ".join(_plain_words(text)) not in " ".join(
                _plain_words(there.text.lower())
            ):
                return f"the quoted “{text}” stands in one text only"
    return None


def _plain_words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text).split()


def names(pair: Pair) -> str | None:
    """Every capitalised name of one text stands in the other."""
    left_a = [t.low for t in pair.only_a if t.capital and t.low not in pair.b.wordset]
    left_b = [t.low for t in pair.only_b if t.capital and t.low not in pair.a.wordset]
    if left_a or left_b:
        return f"{' '.join(left_a) or 'no such name'} against {' '.join(left_b) or 'no such name'}"
    return None
