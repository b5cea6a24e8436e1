"""The guard over languages: both texts in one language and script, and in one that is served."""

from __future__ import annotations

from collections.abc import Iterable

from .guard import Guard
from .language import UNKNOWN
from .pair import Pair


def served(languages: Iterable[str]) -> Guard:
    """The language guard for these language codes ("en", "de", …): a text in any other language is not answered
    semantically.

    Short texts without a telling word count as served when English is.
    """
    codes = frozenset(languages)

    def language(pair: Pair) -> str | None:
        one, other = pair.a.language, pair.b.language
        if one != other and UNKNOWN not in (one, other):
            return f"written in {one} against {other}"
        for code in (one, other):
            if code == UNKNOWN:
                if "en" not in codes:
                    return "the language is not known"
            elif code not in codes:
                return f"language not served: {code}"
        if pair.a.scripts != pair.b.scripts:
            return f"script {'/'.join(sorted(pair.a.scripts))} against {'/'.join(sorted(pair.b.scripts))}"
        return None

    return Guard("language", language)
