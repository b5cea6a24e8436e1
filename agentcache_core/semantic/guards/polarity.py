"""Guards over opposite meanings: negation and its scope, antonyms and direction, and / or."""

from __future__ import annotations

from collections import Counter

from . import words as w
from .lexicon import OPPOSITES
from .pair import Pair, soft
from .reading import Reading, remembered

_NEGATING = ("un", "in", "im", "ir", "il", "dis", "non")
# Function words that point: a text may not use the one where the other text uses its opposite.
_POINTING_TEXT = (
    "before/after with/without over/under above/below up/down on/off in/out in/outside into/out inside/outside"
    " for/against to/from since/until since/till more/less most/least during/before during/after past/until"
    " like/unlike toward/from towards/from while/before while/after while/without without/before without/after"
)
_POINTING: dict[str, set[str]] = {}
for _pair in _POINTING_TEXT.split():
    _one, _other = _pair.split("/")
    _POINTING.setdefault(_one, set()).add(_other)
    _POINTING.setdefault(_other, set()).add(_one)
# Prepositions that give what follows them its part; the same word may not follow another one of these.
_GOVERNING = w.word_set(
    "from to into before after with without by against above below over under since until than onto off"
)


def negation(pair: Pair) -> str | None:
    """Both texts negate the same things."""
    a, b = pair.a, pair.b
    if "Han" in a.scripts or "Kana" in a.scripts or "Hangul" in a.scripts:
        one, other = ([cue for cue in w.CJK_NEGATIONS for _ in range(x.text.count(cue))] for x in (a, b))
        return None if Counter(one) == Counter(other) else f"negated {len(one)} times against {len(other)}"
    if a.language != "en" and any(word in w.FOREIGN_NEGATIONS for word in (*a.words, *b.words)):
        one, other = ([word for word in x.words if word in w.FOREIGN_NEGATIONS] for x in (a, b))
        return None if Counter(one) == Counter(other) else f"“{' '.join(one)}” against “{' '.join(other)}”"
    heads_a, heads_b = negated(a), negated(b)
    if len(heads_a) != len(heads_b):
        if _compensated(pair, heads_a, heads_b) or _compensated(pair, heads_b, heads_a):
            return None
        return f"negates {_list(heads_a)} against {_list(heads_b)}"
    moved_a = [h for h in heads_a if h and not any(h & other for other in heads_b) and h & b.forms]
    moved_b = [h for h in heads_b if h and not any(h & other for other in heads_a) and h & a.forms]
    if moved_a and moved_b:
        return f"the negation is on {_list(moved_a)} against {_list(moved_b)}"
    return None


def _list(heads: list[frozenset[str]]) -> str:
    return ", ".join(f"“{' '.join(sorted(h))}”" for h in heads if h) or ("something" if heads else "nothing")


@remembered
def negated(reading: Reading) -> list[frozenset[str]]:
    """What each negation of an English text may negate, as matching forms: the next content word, or any word of an
    inverted clause.

    In "why don't cats swim" the subject stands between the negation and its verb, so that both are possible.
    """
    tokens = reading.tokens
    found: list[frozenset[str]] = []
    for i, token in enumerate(tokens):
        if token.low not in w.HARD_NEGATIONS or token.kind != "word" or _idle(reading, i):
            continue
        after = []
        for follower in tokens[i + 1 : i + 8]:
            if follower.kind in ("stop", "punct") or follower.low in ("but", "and", "or", "because"):
                break
            if follower.content and (not soft(follower) or follower.low == "possible"):
                after.append(follower.key)
        inverted = token.low == "n't" and (i < 2 or tokens[i - 2].low in w.WH or tokens[i - 2].kind == "stop")
        found.append(frozenset(after if inverted else after[:1]))
    return found


def _idle(reading: Reading, i: int) -> bool:
    """Whether a negation word negates nothing: "why or why not", "whether or not", "no. 5", "not only"."""
    tokens = reading.tokens
    before = tokens[i - 1].low if i else ""
    after = tokens[i + 1] if i + 1 < len(tokens) else None
    if tokens[i].low == "not":
        return before in ("or", "why") or (after is not None and after.low == "only")
    return tokens[i].low == "no" and after is not None and after.kind == "number"


def _compensated(pair: Pair, more: list[frozenset[str]], fewer: list[frozenset[str]]) -> bool:
    """Whether the one negation too many is taken back by a prefix: "not possible" and "impossible"."""
    if len(more) != len(fewer) + 1:
        return False
    for x, y in pair.opposed:
        short, long = sorted((x.key, y.key), key=len)
        if any(short in h for h in more) and any(long == prefix + short for prefix in _NEGATING):
            return True
    return False


def direction(pair: Pair) -> str | None:
    """No word of one text faces its opposite in the other: enable / disable, before / after, from / to, more /
    less."""
    for x, y in pair.opposed:
        short, long = sorted((x.key, y.key), key=len)
        heads = negated(pair.a) + negated(pair.b)
        if any(short in h for h in heads) and any(long == prefix + short for prefix in _NEGATING):
            continue
        return f"“{x.low}” against “{y.low}”"
    extra_a = pair.a.wordset - pair.b.wordset
    extra_b = pair.b.wordset - pair.a.wordset
    for word in extra_a:
        facing = _POINTING.get(word)
        if facing and facing & extra_b:
            return f"“{word}” against “{min(facing & extra_b)}”"
        for other in extra_b:
            if word in w.FUNCTION and other in w.FUNCTION and (word, other) in OPPOSITES:
                return f"“{word}” against “{other}”"
    for one in (extra_a, extra_b):
        for word in ("less", "least"):
            if word in one:
                return f"“{word}” stands in one text only"
    return _governed(pair)


def _governed(pair: Pair) -> str | None:
    for i, j in pair.matched:
        here, there = governor(pair.a, i), governor(pair.b, j)
        if here != there and here in _GOVERNING and there in _GOVERNING:
            facing = _POINTING.get(here, set())
            if there in facing or {here, there} in (
                {"by", "to"},
                {"by", "from"},
                {"by", "with"},
                {"by", "against"},
                {"than", "to"},
            ):
                return f"“{here} {pair.a.tokens[i].low}” against “{there} {pair.b.tokens[j].low}”"
    return None


def governor(reading: Reading, position: int) -> str:
    """The preposition in front of a word, over articles and the words of the same group; "" where there is none."""
    tokens = reading.tokens
    for k in range(position - 1, max(-1, position - 5), -1):
        token = tokens[k]
        if token.low in w.PREPOSITIONS or token.low == "than":
            return token.low
        if token.kind in ("punct", "stop") or not (token.content or token.low in w.ARTICLES or token.low in w.PERSONAL):
            return ""
    return ""


def conjunction(pair: Pair) -> str | None:
    """The same two things are not joined by "and" in one text and by "or" in the other."""
    here, there = _joined(pair.a), _joined(pair.b)
    if not here or not there:
        return None
    for (x, y), word in here.items():
        other = there.get((x, y)) or there.get((y, x))
        if other and other != word:
            return f"“{x} {word} {y}” against “{x} {other} {y}”"
    return None


@remembered
def _joined(reading: Reading) -> dict[tuple[str, str], str]:
    tokens = reading.tokens
    found: dict[tuple[str, str], str] = {}
    for i, token in enumerate(tokens):
        if token.low in ("and", "or", "&", "nor") and 0 < i < len(tokens) - 1:
            left = next((t.key for t in reversed(tokens[max(0, i - 3) : i]) if t.content), "")
            right = next((t.key for t in tokens[i + 1 : i + 4] if t.content), "")
            if left and right:
                found[left, right] = "and" if token.low == "&" else token.low
    return found
