"""Numbers, units, currencies, dates and times as they stand in a text, brought to one written form so that two of
them can be compared."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from .words import word_set

_UNIT_LINES = """
% percent pct percentage
usd $ dollar dollars us$ bucks
eur € euro euros
gbp £ pound-sterling quid
inr ₹ rs rs. rupee rupees
jpy ¥ yen
cny yuan rmb renminbi
krw ₩ won
rub ₽ ruble rubles rouble roubles
chf francs
btc bitcoin bitcoins
cent cents
mm millimeter millimeters millimetre millimetres
cm centimeter centimeters centimetre centimetres
meter meters metre metres
km kilometer kilometers kilometre kilometres kms
mile miles mi
foot feet ft
inch inches in.
yard yards yd
acre acres
hectare hectares ha
sqft
mg milligram milligrams
g gram grams
kg kilogram kilograms kilo kilos kgs
lb lbs pound pounds
oz ounce ounces
ton tons tonne tonnes
ml milliliter milliliters millilitre millilitres
l liter liters litre litres
gallon gallons
cup cups
ms millisecond milliseconds
s sec secs second seconds
min mins minute minutes
h hr hrs hour hours
day days
week weeks
month months
year years yr yrs yo
decade decades
century centuries
hz hertz
khz
mhz
ghz
kb kilobyte kilobytes
kib
mb megabyte megabytes
mib
gb gigabyte gigabytes gigs
gib
tb terabyte terabytes
tib
kbps
mbps
gbps
w watt watts
kw kilowatt kilowatts
kwh
v volt volts
amp amps
mah
°c celsius
°f fahrenheit
kelvin
degree degrees °
mph
kmh km/h kmph
rpm
calorie calories cal kcal
px pixel pixels
gpa
"""
UNITS: dict[str, str] = {}
for _line in _UNIT_LINES.split("\n"):
    for _form in _line.split():
        UNITS[_form] = _line.split()[0]
UNITS |= {"m": "meter"}

_MULTIPLIER_TEXT = """hundred hundreds 2; thousand thousands 3; lakh lakhs lac lacs 5; million millions mn 6;
crore crores 7;
billion billions bn 9; trillion 12"""
MULTIPLIERS: dict[str, int] = {"dozen": 12}
for _line in _MULTIPLIER_TEXT.split(";"):
    *_forms, _zeros = _line.split()
    MULTIPLIERS |= {_form: 10 ** int(_zeros) for _form in _forms}
_SUFFIXES = {"k": 1000, "m": 10**6, "mn": 10**6, "b": 10**9, "bn": 10**9, "t": 10**12}

_ONES_TEXT = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
)
_TENS_TEXT = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBER_WORDS: dict[str, int] = {word: n for n, word in enumerate(_ONES_TEXT.split())}
NUMBER_WORDS |= {word: 10 * (n + 2) for n, word in enumerate(_TENS_TEXT.split())} | {"fourty": 40}
_ORDINAL_TEXT = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth"
    " sixteenth seventeenth eighteenth nineteenth twentieth"
)
ORDINALS: dict[str, int] = {word: n + 1 for n, word in enumerate(_ORDINAL_TEXT.split(" "))}
_MULTIPLICITY_TEXT = "half 0.5 quarter 0.25 once 1 single 1 twice 2 double 2 couple 2 thrice 3 triple 3 quadruple 4"
MULTIPLICITIES: dict[str, str] = dict(
    zip(_MULTIPLICITY_TEXT.split(" ")[::2], _MULTIPLICITY_TEXT.split(" ")[1::2], strict=True)
)
# Words that count only when the other text says another number: "one of", "at first", "a second", "half".
SOFT_WORDS = word_set("one first second once single half couple zero double quarter")

ROMAN = re.compile(r"(?=[IVX])(?:X{0,3})(?:IX|IV|V?I{0,3})\Z")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10}
# A lone capital I, V or X is a number only after one of these.
ROMAN_HEADS = word_set(
    "world war type part chapter phase stage class level grade volume vol act section article tier round title mark"
)

CURRENCY = "$€£¥₹₩₽"
QUANTITY = re.compile(
    r"(?P<sign>(?<![\w.)])[-−](?=[\d.$€£]))?(?P<currency>[$€£¥₹₩₽]\s?)?(?P<body>\d[\d,_]*(?:\.\d+)?|\.\d+)(?P<ordinal>(?:st|nd|rd|th)\b)?(?P<suffix>(?:[a-zA-Z]{1,4}|%|°[CF]?|[€£₹₩])(?![\w]))?"
)
DATE = re.compile(
    r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})(?!\d)|(?P<a>\d{1,2})[-/.](?P<b>\d{1,2})[-/.](?P<c>\d{4}|\d{2})(?![\d.])"
)
TIME = re.compile(
    r"(?P<h>\d{1,2})(?::(?P<min>\d{2})(?::(?P<s>\d{2}))?\s?(?P<half>[ap]\.?m\b\.?)?|\s?(?P<half2>[ap]\.?m\b\.?))",
    re.IGNORECASE,
)


def canonical_number(text: str) -> str:
    """A number as written ("1,000.50", "1,00,000", "3,5") in one form ("1000.5", "100000", "3.5")."""
    body = text.replace("_", "")
    if "," in body:
        head, *groups = body.split(".")[0].split(",")
        thousands = all(len(g) in (2, 3) for g in groups) and len(groups[-1]) == 3 and 1 <= len(head) <= 3
        body = body.replace(",", "") if thousands or "." in body else body.replace(",", ".", 1).replace(",", "")
    try:
        return written(Decimal(body))
    except InvalidOperation:
        return body


def written(value: Decimal) -> str:
    """A decimal without exponent and without trailing zeros."""
    if value == value.to_integral_value():
        return str(int(value))
    return format(value.normalize(), "f")


def quantity(match: re.Match[str]) -> tuple[str, str, str]:
    """(value, unit, left-over suffix) of a match of ``QUANTITY``; a suffix that is no unit, multiplier or ordinal is
    left over."""
    value = canonical_number(match["body"])
    unit = UNITS.get(match["currency"].strip(), "") if match["currency"] else ""
    suffix = (match["suffix"] or "").lower()
    left = ""
    if suffix:
        if suffix in _SUFFIXES and (suffix != "m" or unit):
            value = written(Decimal(value) * _SUFFIXES[suffix])
        elif suffix in UNITS:
            unit = UNITS[suffix]
        elif suffix == "s":
            unit = "decade"
        else:
            left = suffix
    if match["sign"]:
        value = "-" + value
    if match["ordinal"]:
        unit = "ordinal"
    return value, unit, left


def date(match: re.Match[str]) -> str:
    """A numeric date in one form; day and month stay in the written order where it cannot be known which is which."""
    if match["y"]:
        return f"date:{match['y']}-{int(match['m'])}-{int(match['d'])}"
    a, b, c = int(match["a"]), int(match["b"]), match["c"]
    year = c if len(c) == 4 else "20" + c
    if a > 12:
        return f"date:{year}-{b}-{a}"
    return f"date:{year}-{a}-{b}"


def time_of_day(match: re.Match[str]) -> str:
    """A time of day on the 24-hour clock."""
    hour = int(match["h"])
    half = (match["half"] or match["half2"] or "").lower().replace(".", "")
    if half == "pm" and hour < 12:
        hour += 12
    elif half == "am" and hour == 12:
        hour = 0
    return f"time:{hour}:{match['min'] or '00'}" + (f":{match['s']}" if match["s"] else "")


def roman(text: str) -> int:
    """The value of a Roman numeral up to 39."""
    total = 0
    for here, there in zip(text, [*text[1:], "I"], strict=True):
        value = _ROMAN_VALUES[here]
        total += -value if value < _ROMAN_VALUES[there] and there != here and text != "I" else value
    return total
