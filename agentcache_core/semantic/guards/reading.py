"""A text as the guards read it: its words with their matching forms, and what must not change between two texts.

``read`` is pure and remembered: a stored text is parsed once, not once per question. Everything a guard needs is
worked out here, so that
comparing two readings stays far below 100 microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache, wraps
from typing import TypeVar

from . import quantities as q
from . import words as w
from .language import language_of
from .profiles import FOREIGN
from .stems import stem


def _unnamed(pattern: re.Pattern[str]) -> str:
    """A pattern's text with its groups made anonymous, to stand inside a larger one."""
    return re.sub(r"\(\?P<\w+>", "(?:", pattern.pattern)


# Order matters: the first alternative that fits at a place wins.
_KINDS = {
    "url": r"(?:https?://|www\.)[^\s<>\"'`]+",
    "email": r"[\w.+-]+@[\w-]+\.[\w.-]+\w",
    "code": r"`[^`]+`",
    "path": r"(?<![\w<])(?:~|\.{1,2}|[A-Za-z]:)?[/\\][\w.\-]+(?:[/\\][\w.\-]*)*"
    r"|(?<!\w)[\w\-]+(?:/[\w\-]+)*/[\w\-]+\.\w+",
    "date": _unnamed(q.DATE),
    "version": r"(?<![\w.])v?\d+(?:\.\d+){2,}[\w.+-]*|(?<!\w)v\d+(?:\.\d+)*\b",
    "time": f"(?i:{_unnamed(q.TIME)})",
    # Letters and digits in one word (T120, gpt-4, 3fa4b2), but not a number with its unit (5km, 14-year).
    "ident": r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Za-z])"
    r"(?!\d+(?:st|nd|rd|th|[a-zA-Z]{1,4})?(?![\w-]|\.\d))(?!\d+-[a-z]{3})[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*",
    "number": _unnamed(q.QUANTITY),
    "initials": r"(?<!\w)(?:[A-Za-z]\.){2,}",
    "file": r"(?<![\w.])[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*\.[A-Za-z]\w{0,9}\b(?:\(\))?"
    r"|(?<!\w)(?:[a-z]+_)+[a-z0-9_]+\b|\b[A-Za-z]\w*\(\)",
    "plus": r"(?<!\w)[A-Za-z](?:\+\+|\#)",
    "operator": r"[<>]=?|[!=]=|[=+*^×÷]",
    "cjk": r"[぀-ヿ㐀-䶿一-鿿豈-﫿]",
    "word": r"[^\W\d_]+(?:['’][^\W\d_]+)*['’]?",
    "stop": r"[.?!;:\n]+",
    "punct": r"[^\w\s]",
}
_TOKEN = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _KINDS.items()))
_QUOTED = re.compile(
    r"\"([^\"]{1,200})\"|“([^”]{1,200})”|«([^»]{1,200})»|「([^」]{1,200})」|(?<!\w)'([^']{2,200})'(?!\w)"
)
_CONTRACTED_TEXT = (
    "can't can n't;won't will n't;cannot can n't;shan't shall n't;ain't is n't;dont do n't;doesnt does n't"
    ";didnt did n't;isnt is n't;cant can n't;wont will n't;wasnt was n't;arent are n't"
    ";wouldnt would n't;shouldnt should n't;couldnt could n't"
    ";let's let us;whats what is;im i am;ive i have;gonna going to;wanna want to"
)
_CONTRACTED = {form: (one, other) for form, one, other in (line.split() for line in _CONTRACTED_TEXT.split(";"))}
_ENDINGS = ("'s", "'re", "'m", "'ve", "'ll", "'d")


@dataclass(frozen=True, slots=True)
class Token:
    """One word, number or literal of a text: ``low`` as written in lower case, ``key`` its matching form, ``kind``
    what it is."""

    low: str
    key: str
    kind: str  # "word", "number", "literal", "punct", "stop"
    content: bool
    capital: bool  # written with a capital where a plain word would have none
    unit: str = ""
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """All that the guards know about one text."""

    text: str
    language: str
    scripts: frozenset[str]
    tokens: tuple[Token, ...]
    words: tuple[str, ...]  # the lower-case words in order
    wordset: frozenset[str]
    content: tuple[int, ...]  # positions of content tokens
    forms: frozenset[str]  # matching forms of the content tokens
    literals: frozenset[str]
    quoted: frozenset[str]
    numbers: tuple[tuple[str, str, bool], ...]  # value, unit, soft
    question: bool


def _split_word(raw: str) -> tuple[tuple[str, str], ...]:
    """A written word as (lower, original) parts: contractions are taken apart, possessives lose their ending."""
    text = raw.replace("’", "'")
    low = text.lower()
    if low in _CONTRACTED:
        return tuple((part, part) for part in _CONTRACTED[low])
    if low.endswith("n't") and len(low) > 3:
        return ((low[:-3], text[:-3]), ("n't", "n't"))
    for ending in _ENDINGS:
        if low.endswith(ending) and len(low) > len(ending):
            return ((low[: -len(ending)], text[: -len(ending)]), (ending, ending))
    if low.endswith("'"):
        return ((low[:-1], text[:-1]),) if len(low) > 1 else ()
    if "'" in low:
        head, _, tail = low.partition("'")
        return ((head, text[: len(head)]), (tail, text[len(head) + 1 :]))
    return ((low, text),)


def _script(letter: str) -> str:
    code = ord(letter)
    if code < 0x250 or 0x1E00 <= code < 0x1F00:
        return "Latin"
    for name, low, high in _SCRIPTS:
        if low <= code <= high:
            return name
    return "other"


_SCRIPT_TEXT = (
    "Greek 370 3FF;Cyrillic 400 52F;Hebrew 590 5FF;Arabic 600 77F;Devanagari 900 97F;Indic 980 DFF;Thai E00 E7F"
    ";Hangul 1100 11FF;Kana 3040 30FF;Hangul 3130 318F;Han 3400 9FFF;Hangul AC00 D7AF;Han F900 FAFF"
)
_SCRIPTS = tuple(
    (name, int(low, 16), int(high, 16)) for name, low, high in (line.split() for line in _SCRIPT_TEXT.split(";"))
)


class _Parser:
    """Walks one text once and collects its tokens."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[Token] = []
        self.fresh = True  # at the start of a sentence

    def run(self) -> list[Token]:
        for match in _TOKEN.finditer(self.text):
            kind = match.lastgroup or "punct"
            getattr(self, "_" + kind, self._literal)(match)
        return self.tokens

    def _literal(self, match: re.Match[str]) -> None:
        text = match[0].strip("`").rstrip(".,;:)")
        self.tokens.append(
            Token(
                text,
                "=" + (text if match.lastgroup in ("code", "path", "url") else text.lower()),
                "literal",
                True,
                False,
            )
        )
        self.fresh = False

    def _date(self, match: re.Match[str]) -> None:
        found = q.DATE.fullmatch(match[0])
        self._number_token(q.date(found) if found else match[0], "date", match[0])

    def _time(self, match: re.Match[str]) -> None:
        found = q.TIME.fullmatch(match[0])
        self._number_token(q.time_of_day(found) if found else match[0].lower(), "time", match[0])

    def _number(self, match: re.Match[str]) -> None:
        found = q.QUANTITY.fullmatch(match[0])
        if found is None:
            self._number_token(match[0], "", match[0])
            return
        value, unit, left = q.quantity(found)
        if left:
            self.tokens.append(Token(match[0].lower(), "=" + match[0].lower(), "literal", True, False))
            self.fresh = False
            return
        self._number_token(value, unit, match[0])

    def _number_token(self, value: str, unit: str, text: str, *, soft: bool = False) -> None:
        self.tokens.append(Token(text.lower(), "#" + value, "number", True, False, unit, soft))
        self.fresh = False

    def _initials(self, match: re.Match[str]) -> None:
        low = match[0].lower().rstrip(".")
        if low in ("e.g", "i.e", "a.m", "p.m"):
            self._add(low.replace(".", ""), low)
        else:
            joined = low.replace(".", "")
            self.tokens.append(Token(joined, "u.s" if joined == "us" else joined, "word", True, True))
            self.fresh = False

    def _cjk(self, match: re.Match[str]) -> None:
        self.tokens.append(Token(match[0], match[0], "word", True, False))
        self.fresh = False

    def _word(self, match: re.Match[str]) -> None:
        for low, text in _split_word(match[0]):
            self._add(low, text)

    def _add(self, low: str, text: str) -> None:
        tokens = self.tokens
        if not low:
            return
        if low in q.NUMBER_WORDS or low in q.ORDINALS or low in q.MULTIPLICITIES:
            value = str(q.NUMBER_WORDS.get(low, "") or q.ORDINALS.get(low, "") or q.MULTIPLICITIES.get(low, "0"))
            last = tokens[-1] if tokens else None
            small = q.NUMBER_WORDS.get(low, 0) or q.ORDINALS.get(low, 0)
            if (
                last
                and last.kind == "number"
                and last.low in q.NUMBER_WORDS
                and q.NUMBER_WORDS[last.low] >= 20
                and 0 < small < 10
            ):
                tokens[-1] = Token(low, "#" + str(q.NUMBER_WORDS[last.low] + small), "number", True, False)
                return
            self._number_token(value, "ordinal" if low in q.ORDINALS else "", low, soft=low in q.SOFT_WORDS)
            return
        last = tokens[-1] if tokens else None
        if (
            last
            and last.kind == "number"
            and low in q.MULTIPLIERS
            and last.unit in ("", *("usd", "eur", "gbp", "inr", "jpy", "krw"))
        ):
            try:
                value = q.written(Decimal(last.key[1:]) * q.MULTIPLIERS[low])
            except ArithmeticError:
                value = last.key[1:] + low
            tokens[-1] = Token(last.low + low, "#" + value, "number", True, False, last.unit)
            self.fresh = False
            return
        if last and last.kind == "number" and not last.unit and low in q.UNITS:
            tokens[-1] = Token(last.low, last.key, "number", True, False, q.UNITS[low], last.soft)
            return
        if (
            text.isupper()
            and (len(text) > 1 or (last and last.low in q.ROMAN_HEADS))
            and q.ROMAN.match(text)
            and not self.fresh
        ):
            self._number_token(str(q.roman(text)), "", text)
            return
        capital = text[0].isupper() and (not self.fresh or (len(text) > 1 and text[1:] != text[1:].lower()))
        if low == "i" or (text.isupper() and len(text) == 1) or low.removesuffix("s") in w.TIME_WORDS:
            capital = False
        function = low in w.FUNCTION and not (capital and len(text) > 1 and text.isupper())
        self.tokens.append(Token(low, low if capital else stem(low), "word", not function, capital and not function))
        self.fresh = False

    def _stop(self, match: re.Match[str]) -> None:
        self.tokens.append(Token(match[0], match[0], "stop", False, False))
        self.fresh = True

    def _punct(self, match: re.Match[str]) -> None:
        if match[0] == "%" and self.tokens and self.tokens[-1].kind == "number":
            last = self.tokens[-1]
            self.tokens[-1] = Token(last.low, last.key, "number", True, False, "%", last.soft)
            return
        if match[0] == "-" and self.tokens and self.tokens[-1].kind == "number":
            return  # "14-year-old" is 14 years
        self.tokens.append(Token(match[0], match[0], "punct", False, False))


def _idle_phrases(tokens: tuple[Token, ...]) -> set[int]:
    """The positions of words in phrases that add nothing, and of "year" before its number."""
    lows = [t.low for t in tokens]
    found: set[int] = set()
    for phrase in w.PHRASES:
        if phrase[0] in lows and phrase[-1] in lows:
            for i in range(len(lows) - len(phrase) + 1):
                if tuple(lows[i : i + len(phrase)]) == phrase:
                    found.update(range(i, i + len(phrase)))
    found.update(i for i in range(len(tokens) - 1) if lows[i] == "year" and tokens[i + 1].kind == "number")
    return found


_T = TypeVar("_T")


@lru_cache(maxsize=8192)
def read(text: str) -> Reading:
    """The reading of a text. Pure; remembered for the 8,192 texts last asked for."""
    plain = text.replace("``", '"').replace("''", '"')
    tokens = tuple(_Parser(plain).run())
    words = tuple(t.low for t in tokens if t.kind == "word")
    letters = {c for c in plain if c.isalpha()}
    scripts = frozenset(_script(c) for c in letters)
    language = language_of(words, scripts)
    frequent = FOREIGN.get(language, frozenset())
    idle = _idle_phrases(tokens)
    content = tuple(i for i, t in enumerate(tokens) if t.content and t.low not in frequent and i not in idle)
    quoted = frozenset(
        " ".join(next(g for g in m.groups() if g).lower().split()).strip(" .,?!") for m in _QUOTED.finditer(plain)
    )
    return Reading(
        text=text,
        language=language,
        scripts=scripts,
        tokens=tokens,
        words=words,
        wordset=frozenset(words),
        content=content,
        forms=frozenset(tokens[i].key for i in content),
        literals=frozenset(t.key for t in tokens if t.kind == "literal"),
        quoted=quoted - {""},
        numbers=tuple((t.key[1:], t.unit, t.soft) for t in tokens if t.kind == "number"),
        question="?" in plain,
    )


def remembered(work_out: Callable[[Reading], _T]) -> Callable[[Reading], _T]:
    """A function of a reading that is worked out once per text, so that the stored side costs nothing later."""

    @lru_cache(maxsize=8192)
    def by_text(text: str) -> _T:
        return work_out(read(text))

    @wraps(work_out)
    def look_up(reading: Reading) -> _T:
        return by_text(reading.text)

    return look_up
