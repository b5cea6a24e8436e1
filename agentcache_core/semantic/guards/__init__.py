"""Guards: pure veto rules that stand between a similar question and a stored answer."""

from __future__ import annotations

from collections.abc import Iterable

from .facts import literals, names, numbers, quoted, times
from .grammar import coreference, modality, question, tense
from .guard import Guard, Verdict, first_veto, judge
from .languages import served
from .pair import Pair, align, compare
from .polarity import conjunction, direction, negation
from .reading import Reading, read
from .roles import roles
from .wording import wording

#: Changes whenever a verdict of the default guards may change; a calibration holds for one version only.
GUARDS_VERSION = "1"


def default_guards(languages: Iterable[str] = ("en",)) -> tuple[Guard, ...]:
    """The default guards, for texts in these languages."""
    return (
        served(languages),
        Guard("numbers", numbers),
        Guard("times", times),
        Guard("literals", literals),
        Guard("quoted", quoted),
        Guard("names", names),
        Guard("negation", negation),
        Guard("direction", direction),
        Guard("conjunction", conjunction),
        Guard("question", question),
        Guard("tense", tense),
        Guard("modality", modality),
        Guard("coreference", coreference),
        Guard("wording", wording),
        Guard("roles", roles),
    )


DEFAULT_GUARDS: tuple[Guard, ...] = default_guards()

_FACTS = ("language", "numbers", "times", "literals", "quoted", "negation", "direction", "conjunction")
#: The guards that stay useful beside a verifier fitted to one's own pairs: facts and opposites, not wording or order.
FACT_GUARDS: tuple[Guard, ...] = tuple(guard for guard in DEFAULT_GUARDS if guard.name in _FACTS)

__all__ = [
    "DEFAULT_GUARDS",
    "FACT_GUARDS",
    "GUARDS_VERSION",
    "Guard",
    "Pair",
    "Reading",
    "Verdict",
    "align",
    "compare",
    "default_guards",
    "first_veto",
    "judge",
    "read",
]
