"""Guards over how a thing is asked: kind of question, tense, modality, and whom the pronouns mean."""

from __future__ import annotations

from . import words as w
from .pair import Pair
from .reading import Reading, remembered
from .stems import IRREGULAR_PASTS

_MEASURES = w.word_set(
    "many much long old far often tall big fast soon deep high heavy large wide hot cold cheap expensive close likely"
)
_POLITE = frozenset(["can", "could", "will", "would"])
_ASKED = frozenset(["you", "someone", "anyone", "somebody", "anybody"])
_FRONTING = w.word_set("according if when while using because since although as")
_OPENERS = w.word_set("so and but please hi hello hey then if yes no")
_WAY = w.word_set(
    "way ways step steps tip tips method methods do process procedure technique techniques strategy strategies best"
)


@remembered
def kinds(reading: Reading) -> frozenset[str]:
    """The kinds of question that a text asks, one or more a sentence: why, when, where, who, how, how-much …, what,
    yes-no, plain."""
    found: set[str] = set()
    words: list[str] = []
    for token in reading.tokens:
        if token.kind == "stop":
            found |= _kinds(words)
            words = []
        elif token.kind == "word":
            words.append(token.low)
        elif token.low == "," and words and (words[0] in w.PREPOSITIONS or words[0] in _FRONTING):
            words = []  # "In Spain, is it rude …", "If it rains, what …": the question comes after
    return frozenset(found | _kinds(words))


def _kinds(words: list[str]) -> set[str]:
    """The kinds of one sentence."""
    found: set[str] = set()
    first = next((x for x in words if x not in _OPENERS), "")
    if first in w.MODAL_CLASS or first in w.BE or first in w.DO or first in w.HAVE:
        asked = words.index(first) + 1 < len(words) and words[words.index(first) + 1] in _ASKED
        if not (asked and first in _POLITE):
            return {"yes-no"}
        # "Can you tell me what …" asks what; "could you turn …" is a request, "can you eat …" a question.
        return {"what"} if {"tell", "explain", "show", "give"} & set(words[:5]) else {"yes-no", "plain"}
    for i, word in enumerate(words):
        if word not in w.WH:
            continue
        after = words[i + 1] if i + 1 < len(words) else ""
        before = words[i - 1] if i else ""
        early = i < 3 or not found
        if word == "how":
            if before not in ("know", "learn", "knows"):
                found.add("why" if after == "come" else "how-" + after if after in _MEASURES else "how")
        elif word == "why":
            found.add("why")
        elif word in ("when", "where"):
            if i < 3:
                found.add(word)
        elif word in ("who", "whom", "whose"):
            if early:
                found.add("who")
        elif early:
            found |= _what(words, i)
    if not found and first:
        found.add("plain")
    return found


def _what(words: list[str], i: int) -> set[str]:
    after = words[i + 1] if i + 1 < len(words) else ""
    if any(x in ("reason", "reasons", "cause", "causes", "caused") for x in words[i + 1 : i + 6]):
        return {"why"}
    if after in ("time", "year", "date", "day", "month"):
        return {"when"}
    if after in ("place", "city", "country", "state", "location"):
        return {"where", "what"}
    return {"who"} if after in ("person", "people") else {"what"}


def question(pair: Pair) -> str | None:
    """Both texts ask the same kind of question."""
    a, b = kinds(pair.a), kinds(pair.b)
    if a == b or a & b or _compatible(a, b, pair) or _compatible(b, a, pair):
        return None
    return f"asks {'/'.join(sorted(a))} against {'/'.join(sorted(b))}"


def _compatible(a: frozenset[str], b: frozenset[str], pair: Pair) -> bool:
    words = pair.a.wordset | pair.b.wordset
    if "how" in a and ("what" in b or "yes-no" in b) and words & _WAY:
        return True
    if "what" in a and "who" in b and words & {"person", "people", "man", "woman", "someone"}:
        return True
    if "why" in a and "what" in b and words & {"reason", "reasons", "cause", "causes", "purpose"}:
        return True
    return "plain" in a and "yes-no" not in b


def tense(pair: Pair) -> str | None:
    """Both texts speak of the same time: is / was / will be / used to be / becoming."""
    for i, j in pair.matched:
        one, other = pair.a.tokens[i].low, pair.b.tokens[j].low
        if one == other:
            continue
        if (_past_and_present(one, other) and not _participle(pair.a, i)) or (
            _past_and_present(other, one) and not _participle(pair.b, j)
        ):
            return f"“{one}” against “{other}”"
    a, b = _times(pair.a), _times(pair.b)
    if a == b:
        return None
    for cue in ("used to", "no longer", "going to become", "becoming"):
        if (cue in a) != (cue in b):
            return f"“{cue}” stands in one text only"
    plain = {"past", "present", "future"}
    x, y = a & plain, b & plain
    if x and y and not (x & y):
        return f"{'/'.join(sorted(x))} against {'/'.join(sorted(y))}"
    return "one text speaks of the future" if "future" in x ^ y else None


def _past_and_present(one: str, other: str) -> bool:
    """Whether one word is a past form and the other the third person of the present: "loved" and "loves"."""
    return (
        other.endswith("s")
        and not other.endswith("ss")
        and (one.endswith("ed") or one in IRREGULAR_PASTS)
        and not one.endswith("s")
    )


def _participle(reading: Reading, position: int) -> bool:
    """Whether a past form stands under "be" or "have": "is loved", "has loved"."""
    return any(t.low in w.BE or t.low in w.HAVE for t in reading.tokens[max(0, position - 5) : position])


@remembered
def _times(reading: Reading) -> frozenset[str]:
    words = reading.words
    found: set[str] = set()
    for i, word in enumerate(words):
        after = words[i + 1] if i + 1 < len(words) else ""
        before = words[i - 1] if i else ""
        if (
            word in ("used", "use")
            and after == "to"
            and (before not in w.BE or word == "use")
            and before not in ("get", "getting", "got", "can", "to", "i", "be")
        ):
            # "did she use to be", "she used to be"; not "is used to", "get used to", "which word do I use to".
            if word == "used" or "did" in words[max(0, i - 6) : i] or "n't" in words[max(0, i - 6) : i]:
                found.add("used to")
        elif word in ("becoming", "become", "became", "becomes"):
            if word == "becoming" and any(x in w.BE for x in words[max(0, i - 4) : i]):
                found.add("becoming")
        elif word == "longer" and before == "no":
            found.add("no longer")
        if word in w.PAST:
            found.add("past")
        elif word in w.HAVE:
            if "been" in words[i + 1 : i + 5]:
                found.add("past")
        elif word in w.PRESENT:
            found.add("present")
        elif word in w.FUTURE or (
            word == "going" and after == "to" and before in ("is", "are", "am", "'s", "'re", "'m")
        ):
            found.add("future")
    return frozenset(found)


def modality(pair: Pair) -> str | None:
    """Both texts ask for the same: whether one can, should, must or would. In "how" questions these are one."""
    a, b = _modals(pair.a), _modals(pair.b)
    if a == b:
        return None
    asked = kinds(pair.a) | kinds(pair.b)
    if "yes-no" not in asked and ("how" in asked or (_asks_what_to_do(pair.a) and _asks_what_to_do(pair.b))):
        return None
    if a and b and not (a & b):
        return f"{'/'.join(sorted(a))} against {'/'.join(sorted(b))}"
    strong = (a ^ b) & {"should", "must"}
    if strong and (_opens(pair.a) or _opens(pair.b)):
        return f"“{min(strong)}” stands in one text only"
    if "yes-no" in kinds(pair.a) & kinds(pair.b) and a != b and (_opens(pair.a) or _opens(pair.b)):
        return f"{'/'.join(sorted(a)) or 'no modal verb'} against {'/'.join(sorted(b)) or 'no modal verb'}"
    return None


@remembered
def _modals(reading: Reading) -> frozenset[str]:
    found = {w.MODAL_CLASS[x] for x in reading.words if x in w.MODAL_CLASS and x != "need"}
    text = " ".join(reading.words)
    if "have to" in text or "has to" in text or "need to" in text or "needs to" in text or "supposed to" in text:
        found.add("must")
    if "able to" in text or "allowed to" in text or "possible for" in text or "possible to" in text:
        found.add("can")
    return frozenset(found)


def _asks_what_to_do(reading: Reading) -> bool:
    """Whether a text asks "what can I do", "what should one do": what is asked for is a way, whatever the verb."""
    words = reading.words
    return any(
        word == "what" and "do" in words[i + 2 : i + 7] and any(x in _DOERS for x in words[i + 1 : i + 4])
        for i, word in enumerate(words)
    )


def _opens(reading: Reading) -> bool:
    return bool(reading.words) and reading.words[0] in w.MODAL_CLASS


def coreference(pair: Pair) -> str | None:
    """The pronouns mean the same persons: he / she, I / you, and no name stands where the other text has a
    pronoun."""
    a, b = _persons(pair.a), _persons(pair.b)
    if a != b:
        if a and b:
            return f"{' '.join(a)} against {' '.join(b)}"
        if any(t.capital for t in (*pair.a.tokens, *pair.b.tokens)):
            return f"{' '.join(a or b)} in one text only, beside a name"
    return _speakers(pair)


@remembered
def _persons(reading: Reading) -> tuple[str, ...]:
    return tuple("he" if x in w.MALE else "she" for x in reading.words if x in w.MALE or x in w.FEMALE)


def _speakers(pair: Pair) -> str | None:
    one_set, other_set = (_without_for_me(side) for side in (pair.a, pair.b))
    for acting, suffering in _CASES:
        for here, there in ((one_set, other_set), (other_set, one_set)):
            if acting in here and suffering not in here and suffering in there and acting not in there:
                return f"“{acting}” against “{suffering}”"
    one, other = _sides(pair.a), _sides(pair.b)
    both = {"1", "2"}
    if set(one) == both and set(other) == both and (one[0] != other[0]):
        return "I and you change places"
    if len(set(one)) == 1 and len(set(other)) == 1 and one[0] != other[0]:
        subjects = frozenset(["i", "we", "you"])
        if not (pair.a.wordset & subjects and pair.b.wordset & subjects):
            return "mine against yours"
    return None


_DOERS = frozenset(["i", "you", "we", "one"])
_CASES = (("i", "me"), ("we", "us"), ("he", "him"), ("they", "them"))
_SPEAKER = dict.fromkeys(
    ["i", "me", "my", "mine", "myself", "we", "us", "our", "ours", "ourselves"], "1"
) | dict.fromkeys(["you", "your", "yours", "yourself", "yourselves"], "2")


@remembered
def _without_for_me(reading: Reading) -> frozenset[str]:
    """The words of a text; "for me to" and "possible for us" say no more than "I" and "we"."""
    text = " ".join(reading.words)
    return reading.wordset - {"me", "us"} if "for me" in text or "for us" in text else reading.wordset


def _sides(reading: Reading) -> list[str]:
    return [_SPEAKER[x] for x in reading.words if x in _SPEAKER]
