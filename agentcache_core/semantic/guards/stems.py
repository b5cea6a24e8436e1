"""A light English stemmer: brings inflected forms of one word together, and nothing further.

Our own few rules, less eager than Porter's (M. F. Porter, "An algorithm for suffix stripping", 1980): derivations
such as
nation / national stay apart, because a guard must tell them apart. The result is a matching form, not a word
("making" -> "mak").
"""

from __future__ import annotations

from functools import lru_cache

from .words import word_set

_IRREGULAR_LINES = """
go goes went gone going; buy bought; bring brought; think thought; teach taught; catch caught; fight fought;
seek sought; sell sold; tell told; hold held; find found; lose lost losing; win won winning; get got gotten;
give gave given; take took taken; make made; write wrote written; drive drove driven; ride rode ridden;
rise rose risen; choose chose chosen; speak spoke spoken; break broke broken; steal stole stolen; wake woke woken;
freeze froze frozen; forget forgot forgotten; eat ate eaten; fall fell fallen; see saw seen; know knew known;
grow grew grown; throw threw thrown; fly flew flown; draw drew drawn; show shown; begin began begun;
drink drank drunk; sing sang sung; swim swam swum; run ran; come came; become became; leave left leaving; feel felt;
keep kept; sleep slept; meet met; lead led; feed fed; spend spent; send sent; lend lent; build built; mean meant;
understand understood; stand stood; pay paid; say said; lie lying; die dies died dying; tie ties tied tying;
use uses used using; own owns owned owning; hear heard;
beat beaten; bite bit bitten; hide hid hidden; shoot shot; sit sat; stick stuck; strike struck; swear sworn swore;
tear tore torn; wear wore worn; forgive forgave forgiven; bear bore borne; shake shook shaken; sink sank sunk;
child children; man men; woman women; person people persons; foot feet; tooth teeth; mouse mice; goose geese;
life lives; wife wives; knife knives; leaf leaves; half halves; analysis analyses; crisis crises; criterion criteria;
phenomenon phenomena; datum data; medium media; index indices indexes; matrix matrices; colour color; favour favor;
behaviour behavior; centre center; theatre theater; grey gray; programme program; licence license; defence defense;
catalogue catalog; dialogue dialog; travelling traveling
"""
_IRREGULAR: dict[str, str] = {}
for _line in _IRREGULAR_LINES.split(";"):
    for _form in _line.split():
        _IRREGULAR[_form] = _line.split()[0]

#: Past forms of irregular verbs, as far as the table above knows them: every form that is no base and no other ending.
IRREGULAR_PASTS = frozenset(
    form for form, root in _IRREGULAR.items() if form != root and not form.endswith(("s", "ing", "en", "ren"))
)

_VOWELS = frozenset("aeiouy")
#: Words in -ly that are no adverbs of what is left without it.
NO_ADVERBS = word_set(
    "hardly lately barely nearly only early family reply supply apply july italy fly rely ally belly holy ugly"
    " daily weekly monthly yearly friendly lovely elderly likely costly deadly lonely comply multiply imply"
    " butterfly rarely assembly anomaly monopoly shortly largely"
)
_S_STAYS = word_set(
    "news always perhaps lens gas bus plus minus yes this his was has does is its us as thus series species physics"
)


def _undouble(word: str) -> str:
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeioulsz":
        return word[:-1]
    return word


def _has_vowel(word: str) -> bool:
    return any(letter in _VOWELS for letter in word)


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """The matching form of a lower-case word."""
    root = _IRREGULAR.get(word)
    if root is not None:
        return root.removesuffix("e") if len(root) > 3 else root
    if len(word) <= 3 or not word.isascii():
        return word
    if word.endswith("ly") and len(word) > 4 and word not in NO_ADVERBS:
        word = word[:-2]
        if word.endswith("i"):
            word = word[:-1] + "y"
    if word.endswith("s") and word not in _S_STAYS and not word.endswith(("ss", "us", "is")):
        if word.endswith("ies") and len(word) > 4:
            word = word[:-3] + "y"
        elif word.endswith(("xes", "ches", "shes", "sses", "zes", "oes")):
            word = word[:-2]
        else:
            word = word[:-1]
    known = _IRREGULAR.get(word)
    if known is not None:
        return known.removesuffix("e") if len(known) > 3 else known
    if word.endswith("ing") and len(word) > 5 and _has_vowel(word[:-3]):
        word = _undouble(word[:-3])
    elif word.endswith("ied") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("ed") and len(word) > 4 and _has_vowel(word[:-2]):
        word = _undouble(word[:-2])
    if len(word) > 3 and word.endswith("e"):
        word = word[:-1]
    for british, american in (("is", "iz"), ("isation", "ization"), ("our", "or")):
        if word.endswith(british) and len(word) > len(british) + 2:
            word = word[: -len(british)] + american
            break
    if len(word) > 3 and word.endswith("y") and word[-2] not in _VOWELS:
        word = word[:-1] + "i"
    return word
