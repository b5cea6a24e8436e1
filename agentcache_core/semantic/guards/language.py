"""Which language a text is written in, as far as frequent words and scripts tell."""

from __future__ import annotations

from .profiles import LANGUAGES

# The first script found decides: Japanese is written with Han characters too, Korean never with kana.
_SCRIPTS = "Hangul ko Kana ja Han zh Cyrillic ru Greek el Hebrew he Arabic ar Devanagari hi Thai th Indic xx other xx"
_BY_SCRIPT = tuple(zip(_SCRIPTS.split()[::2], _SCRIPTS.split()[1::2], strict=True))

#: A text without a single word of any profile is taken to be of unknown language, "und"; one that cannot be
#: English is "xx".
UNKNOWN = "und"


def language_of(words: tuple[str, ...], scripts: frozenset[str]) -> str:
    """A language code; "und" where nothing tells, "xx" for a language without a profile here."""
    for script, code in _BY_SCRIPT:
        if script in scripts:
            return code
    counts = {code: sum(1 for word in words if word in profile) for code, profile in LANGUAGES.items()}
    best = max(counts, key=lambda code: (counts[code], code == "en"))
    if counts[best]:
        return best
    if any(not word.isascii() for word in words):
        return "xx"
    return UNKNOWN if len(words) < 5 else "xx"
