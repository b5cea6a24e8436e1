"""Which language a text is written in, as far as frequent words and scripts tell."""

from __future__ import annotations

from .profiles import ENGLISH, ENGLISH_ONLY, FOREIGN

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
    english = sum(1 for word in words if word in ENGLISH_ONLY)
    weak_english = sum(1 for word in words if word in ENGLISH)
    best, hits = "", 0
    for code, profile in FOREIGN.items():
        count = sum(1 for word in words if word in profile)
        if count > hits:
            best, hits = code, count
    if hits > english or (hits and not english and not weak_english):
        return best
    if english or weak_english:
        return "en"
    if any(not word.isascii() for word in words):
        return "xx"
    return UNKNOWN if len(words) < 5 else "xx"
