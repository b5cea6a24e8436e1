"""The guard over who does what to whom: the same words in another order are another question, unless a rule of
grammar explains the order.

Both texts are brought to one order first: a passive with its agent becomes active, "president of India" becomes
"India president". Two words
that then still stand in opposite order must be excused: they are joined by and / or in both texts, one is a fronted
adverbial, a predicate
between them is symmetric. Whatever is not excused is a veto.
"""

from __future__ import annotations

from . import words as w
from .pair import Pair, soft
from .polarity import governor
from .reading import Reading, Token, remembered
from .stems import NO_ADVERBS

_PARTICIPLES = w.word_set(
    "done made seen known given taken written driven chosen spoken broken stolen frozen forgotten eaten beaten"
    " bitten hidden shown grown thrown flown drawn begun drunk sung won bought brought thought taught caught"
    " fought sought sold told held found lost led fed spent sent lent built meant understood paid said heard"
    " hit hurt cut put set read shot struck sworn torn worn born run kept left met felt forgiven shaken sunk"
    " swum become overtaken undertaken proven overthrown rewritten overridden"
)
_COORDINATORS = w.word_set("and or & vs versus nor / , than")
_LINKS = _COORDINATORS - {"than"}
_JOINTS = frozenset(["of", "for", "in", "on", "at", "from", "about", "regarding"])
_ORDERLESS_MAX = 80
_ANYBODY = frozenset(["you", "we", "i", "one", "they", "people"])


def roles(pair: Pair) -> str | None:
    """The shared words stand in the same order, once grammar that keeps the meaning is taken away."""
    pairs = [(i, j) for i, j in pair.matched if not _free(pair.a.tokens[i]) and not _free(pair.b.tokens[j])]
    if len(pairs) < 2:
        return None
    passive = _voices(pair, pairs)
    if passive:
        return passive
    to_b = dict(pairs)
    excused: dict[tuple[int, int], bool] = {}
    swapped = (0, 0)
    for order_a, order_b in zip(orders(pair.a), orders(pair.b), strict=True):
        rank_b = {j: n for n, j in enumerate(order_b)}
        places = [(rank_b[to_b[i]], i) for i in order_a if i in to_b]
        found = _unexcused(pair, places, to_b, excused)
        if found is None:
            return None
        swapped = found
    x, y = swapped
    return f"“{pair.a.tokens[x].low}” and “{pair.a.tokens[y].low}” change places"


def _unexcused(
    pair: Pair, places: list[tuple[int, int]], to_b: dict[int, int], excused: dict[tuple[int, int], bool]
) -> tuple[int, int] | None:
    """The first two words of ``a`` that stand in opposite order in ``b`` without an excuse; near ones come first."""
    n = len(places)
    for distance in range(1, n):
        for m in range(n - distance):
            rank, x = places[m]
            other_rank, y = places[m + distance]
            if rank <= other_rank:
                continue
            known = excused.get((x, y))
            if known is None:
                known = excused[x, y] = n <= _ORDERLESS_MAX and _excused(pair, x, y, to_b)
            if not known:
                return x, y
        if distance == 1 and all(places[m][0] <= places[m + 1][0] for m in range(n - 1)):
            return None
    return None


def _free(token: Token) -> bool:
    """Adverbs and fillers may stand anywhere."""
    adverb = token.low.endswith("ly") and len(token.low) > 4 and not token.capital and token.low not in NO_ADVERBS
    return soft(token) or (token.kind == "word" and adverb)


def _excused(pair: Pair, x: int, y: int, to_b: dict[int, int]) -> bool:
    a, b = pair.a, pair.b
    joined_a, joined_b = _coordinated(a, x, y), _coordinated(b, to_b[x], to_b[y])
    if joined_a and joined_b:
        return True
    if (abs(x - y) == 2 and joined_a and abs(to_b[x] - to_b[y]) == 1) or (
        abs(to_b[x] - to_b[y]) == 2 and joined_b and abs(x - y) == 1
    ):
        return True  # "an Egyptian dancer", "a dancer and Egyptian"
    if _modifier(pair, x, y, to_b) or (_clauses(a, x, y) and _clauses(b, to_b[y], to_b[x])):
        return True
    if _symmetric(a, x, y) and _symmetric(b, to_b[y], to_b[x]):
        return True
    if any(_impersonal(a, b, i, to_b[i]) or _impersonal(b, a, to_b[i], i) for i in (x, y)):
        return True
    return any(_adverbial(a, b, i, to_b[i]) or _adverbial(b, a, to_b[i], i) for i in (x, y))


def _impersonal(one: Reading, other: Reading, i: int, j: int) -> bool:
    """Whether a verb is a passive without agent in one text and has anybody for its subject in the other: "how is bread
    made", "how do you make bread"."""
    return _passive_at(one, i) and not _agent_follows(one, i) and j > 0 and other.tokens[j - 1].low in _ANYBODY


def _coordinated(reading: Reading, x: int, y: int) -> bool:
    """Whether two words are joined by and / or / vs, with nothing between but the words of their own groups."""
    low, high = min(x, y), max(x, y)
    joined = False
    for k in range(low + 1, high):
        token = reading.tokens[k]
        if token.low in _LINKS:
            joined = joined or token.low != ","
        elif token.content:
            if not (token.capital or joined or token.kind == "number") and k - low > 2:
                return False
        elif token.low not in w.ARTICLES:
            return False
    return joined


def _modifier(pair: Pair, x: int, y: int, to_b: dict[int, int]) -> bool:
    """Whether one of two words stands behind its noun in one text ("colleges for law") and before it in the other.

    Just one of them may have gained or lost its preposition: if both have, they changed places.
    """
    changed = 0
    for i in (x, y):
        here, there = governor(pair.a, i), governor(pair.b, to_b[i])
        if here != there:
            if (here or there) not in _JOINTS or (here and there):
                return False
            changed += 1
    return changed == 1 and _one_group(pair.a, x, y) and _one_group(pair.b, to_b[x], to_b[y])


def _one_group(reading: Reading, x: int, y: int) -> bool:
    low, high = min(x, y), max(x, y)
    return all(t.content or t.low in w.ARTICLES or t.low in _JOINTS or t.low == "'s" for t in reading.tokens[low:high])


def _clauses(reading: Reading, x: int, y: int) -> bool:
    """Whether just one of two words stands in an "if" or "when" clause."""
    return _conditional(reading, x) != _conditional(reading, y)


def _conditional(reading: Reading, position: int) -> bool:
    for k in range(position - 1, -1, -1):
        token = reading.tokens[k]
        if token.kind in ("stop", "punct"):
            return False
        if token.low in ("if", "unless", "whenever") or (token.low == "when" and k > 2):
            return True
    return False


def _symmetric(reading: Reading, x: int, y: int) -> bool:
    low, high = min(x, y), max(x, y)
    between = reading.tokens[low + 1 : high]
    around = reading.tokens[max(0, low - 4) : high + 3]
    if any(t.low in ("than", "from", "before", "after", "not") for t in between) and not any(
        t.low.startswith("differ") for t in around
    ):
        return False
    content = [t for t in between if t.content and t.low not in w.SYMMETRIC and not t.capital]
    return not content and any(t.low in w.SYMMETRIC for t in around)


def _adverbial(one: Reading, other: Reading, i: int, j: int) -> bool:
    """Whether a word of a fronted phrase ("In India, how …", "According to X, …") stands after the same preposition
    in the other text."""
    here = _phrase(one, i)
    if here is None:
        return False
    prep, start = here
    fronted = start == 0 or one.tokens[start - 1].kind in ("punct", "stop")
    if prep == "according":
        return _opinion(other, j) or (_phrase(other, j) or ("", 0))[0] == "according"
    there = _phrase(other, j)
    if there is None or there[0] != prep or not fronted:
        return False
    return sum(1 for t in other.tokens if t.low == prep) == 1 and sum(1 for t in one.tokens if t.low == prep) == 1


def _phrase(reading: Reading, position: int) -> tuple[str, int] | None:
    """The preposition that opens the phrase a word is in, and its position."""
    tokens = reading.tokens
    for k in range(position - 1, max(-1, position - 7), -1):
        token = tokens[k]
        if token.low in w.PREPOSITIONS:
            if token.low == "to" and k and tokens[k - 1].low == "according":
                return "according", k - 1
            return token.low, k
        if not (token.content or token.low in w.ARTICLES or token.low in w.PERSONAL or token.low in ("and", "or")):
            return None
    return None


def _opinion(reading: Reading, position: int) -> bool:
    """Whether a word is the one who thinks: "do critics think", "do you believe"."""
    after = reading.tokens[position + 1 : position + 4]
    return any(
        t.low in ("think", "thinks", "believe", "believes", "say", "says", "consider", "considers", "thought", "said")
        for t in after
    )


def _participle(token: Token) -> bool:
    return token.kind == "word" and (token.low in _PARTICIPLES or (token.low.endswith("ed") and len(token.low) > 3))


def _passive_at(reading: Reading, k: int) -> bool:
    """Whether the word at ``k`` is a participle under a form of "be" in the same clause."""
    if not _participle(reading.tokens[k]):
        return False
    for n in range(k - 1, max(-1, k - 8), -1):
        token = reading.tokens[n]
        if token.kind in ("stop", "punct") or token.low in ("and", "or", "that", "who", "which"):
            return False
        if token.low in w.DO or token.low in w.HAVE:
            return False
        if token.low in w.BE:
            return True
    return False


def _voices(pair: Pair, pairs: list[tuple[int, int]]) -> str | None:
    """A subject that acts in one text and suffers in the other ("how does it produce" / "how is it produced")."""
    for n, (i, j) in enumerate(pairs):
        x, y = pair.a.tokens[i], pair.b.tokens[j]
        if not n or x.low == y.low:
            continue
        before = pairs[n - 1]
        if before[0] != _content_before(pair.a, i) or before[1] != _content_before(pair.b, j):
            continue
        one = _passive_at(pair.a, i) and not _agent_follows(pair.a, i)
        other = _passive_at(pair.b, j) and not _agent_follows(pair.b, j)
        if one != other and (_supported(pair.b, j) if one else _supported(pair.a, i)):
            return f"“{x.low}” and “{y.low}” differ in voice"
    return None


def _content_before(reading: Reading, position: int) -> int:
    return next((k for k in range(position - 1, -1, -1) if reading.tokens[k].content), -1)


def _supported(reading: Reading, k: int) -> bool:
    """Whether a verb stands under "do", so that its subject acts."""
    return any(t.low in w.DO or t.low in w.MODALS for t in reading.tokens[max(0, k - 6) : k]) and not _participle(
        reading.tokens[k]
    )


def _agent_follows(reading: Reading, k: int) -> bool:
    tokens = reading.tokens
    return k + 2 < len(tokens) and any(
        tokens[n].low == "by" and tokens[n + 1].kind == "word" and not tokens[n + 1].low.endswith("ing")
        for n in range(k + 1, min(k + 3, len(tokens) - 1))
    )


@remembered
def orders(reading: Reading) -> tuple[tuple[int, ...], ...]:
    """The positions of a text's content words: actives only, then also with "A of B" read as "B A", then with "for"
    and "in" as well."""
    active = _active(reading)
    return (
        active,
        _compounded(reading, active, frozenset(["of"])),
        _compounded(reading, active, frozenset(["of", "for", "in", "on"])),
    )


def _active(reading: Reading) -> tuple[int, ...]:
    """The content positions with every agent of a passive put in front of its clause."""
    order = list(reading.content)
    tokens = reading.tokens
    for k in reading.content:
        if not (_participle(tokens[k]) and _agent_follows(reading, k)):
            continue
        by = next(n for n in range(k + 1, k + 3) if tokens[n].low == "by")
        agent = []
        for n in range(by + 1, len(tokens)):
            if tokens[n].content:
                agent.append(n)
            elif tokens[n].low not in w.ARTICLES and tokens[n].low not in ("and", "of", "'s"):
                break
        if not agent or tokens[agent[0]].kind == "number":
            continue
        start = k
        while start > 0 and tokens[start - 1].kind not in ("stop", "punct"):
            start -= 1
        clause = [n for n in order if start <= n < k and n not in agent]
        rest = [n for n in order if n not in agent and n not in clause and n != k]
        place = sum(1 for n in rest if n < start)
        order = rest[:place] + agent + [k] + clause + rest[place:]
    return tuple(order)


def _compounded(reading: Reading, order: tuple[int, ...], joints: frozenset[str]) -> tuple[int, ...]:
    """The order with the word before "of" put after the words that follow it, from the right end on."""
    found = list(order)
    tokens = reading.tokens
    for k in range(len(tokens) - 2, 0, -1):
        if tokens[k].low not in joints or not tokens[k - 1].content:
            continue
        right: list[int] = []
        for n in range(k + 1, len(tokens)):
            if tokens[n].content:
                right.append(n)
            elif tokens[n].low not in w.ARTICLES and tokens[n].low not in joints:
                break
        left = [k - 1]
        while tokens[left[0]].capital and left[0] > 0 and tokens[left[0] - 1].capital:
            left.insert(0, left[0] - 1)
        if not right or any(n not in found for n in (*left, *right)):
            continue
        found = [n for n in found if n not in left]
        last = max(found.index(n) for n in right)
        found[last + 1 : last + 1] = left
    return tuple(found)
