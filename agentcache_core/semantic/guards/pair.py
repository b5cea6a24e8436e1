"""Two readings laid side by side: which content words of one answer to which of the other, and what is left over."""

from __future__ import annotations

from dataclasses import dataclass

from . import words as w
from .lexicon import opposites, slip, synonyms
from .reading import Reading, Token, read
from .stems import stem


@dataclass(frozen=True, slots=True)
class Pair:
    """A question, a stored text, and the alignment of their content words.

    ``matched`` holds (position in a, position in b) of words that mean the same, in the order of ``a``; ``only_a``
    and ``only_b`` are the
    content words left over, ``opposed`` the left-over words of both sides that are opposites.
    """

    a: Reading
    b: Reading
    matched: tuple[tuple[int, int], ...]
    only_a: tuple[Token, ...]
    only_b: tuple[Token, ...]
    opposed: tuple[tuple[Token, Token], ...]

    @property
    def identical(self) -> bool:
        """Whether both texts are the same words in the same order, apart from spaces, case of the first letter and
        end marks."""
        return len(self.a.tokens) == len(self.b.tokens) and not self.only_a and not self.only_b


def compare(a: str, b: str) -> Pair:
    """The pair of two texts; order does not matter to any guard's verdict."""
    return align(read(a), read(b))


def _alike(x: Token, y: Token) -> bool:
    if x.kind != y.kind:
        return False
    if x.kind != "word":
        return x.key == y.key
    if x.low == y.low or x.key == y.key:
        return True
    one, other = stem(x.low), stem(y.low)
    if x.capital and y.capital:
        # Two names one letter apart are two names, but "Indians" is the plural of "Indian" and a slip of the finger
        # is one.
        return (
            synonyms(one, other)
            or (len(x.low) >= 5 and one == other and x.low[-2:] != "es" and y.low[-2:] != "es" and _demonym(one))
            or slip(x.low, y.low)
        )
    return one == other or synonyms(one, other) or slip(x.low, y.low)


def _demonym(root: str) -> bool:
    return root.endswith(("an", "ian", "er", "or", "ist", "i"))


def align(a: Reading, b: Reading) -> Pair:
    """Match content words by form first, then by stem, synonym or spelling slip."""
    where: dict[str, list[int]] = {}
    for j in reversed(b.content):
        where.setdefault(b.tokens[j].low if b.tokens[j].kind == "word" else b.tokens[j].key, []).append(j)
    matched: list[tuple[int, int]] = []
    left_a: list[int] = []
    taken: set[int] = set()
    for i in a.content:
        token = a.tokens[i]
        places = where.get(token.low if token.kind == "word" else token.key)
        if places:
            j = places.pop()
            matched.append((i, j))
            taken.add(j)
        else:
            left_a.append(i)
    left_b = [j for j in b.content if j not in taken]
    if left_a and left_b:
        still: list[int] = []
        for i in left_a:
            for j in left_b:
                if _alike(a.tokens[i], b.tokens[j]):
                    matched.append((i, j))
                    left_b.remove(j)
                    break
            else:
                still.append(i)
        left_a = still
        if left_a and left_b:
            left_a, left_b = _compounds(a, b, left_a, left_b, matched)
        matched.sort()
    only_a, only_b = tuple(a.tokens[i] for i in left_a), tuple(b.tokens[j] for j in left_b)
    opposed = tuple((x, y) for x in only_a for y in only_b if x.kind == y.kind == "word" and _opposed(x, y))
    return Pair(a, b, tuple(matched), only_a, only_b, opposed)


def _opposed(x: Token, y: Token) -> bool:
    return opposites(x.low, y.low) or opposites(x.key, y.key)


def _compounds(
    a: Reading, b: Reading, left_a: list[int], left_b: list[int], matched: list[tuple[int, int]]
) -> tuple[list[int], list[int]]:
    """Match "data base" with "database": two neighbouring left-over words against one."""
    for one, two, rows, columns, flip in ((a, b, left_a, left_b, False), (b, a, left_b, left_a, True)):
        for i in list(rows):
            joined = one.tokens[i].low
            for k in range(len(columns) - 1):
                j, n = columns[k], columns[k + 1]
                if n - j <= 2 and two.tokens[j].low + two.tokens[n].low == joined:
                    matched.append((j, i) if flip else (i, j))
                    rows.remove(i)
                    del columns[k : k + 2]
                    break
    return left_a, left_b


def soft(token: Token) -> bool:
    """Whether a content word may come or go without changing what is asked."""
    return token.kind == "word" and not token.capital and (token.low in w.FILLERS or token.low in w.FRAMING)
