"""What the marketplace's pages share: amounts typed in dollars, and a page or a refusal for one form."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from agentcache_service.errors import Unprocessable


def micros_of(text: str, what: str = "The price") -> int:
    """An amount typed in dollars, such as `4.99` or `$1,200`, in micro-USD; empty is 0."""
    plain = text.strip().removeprefix("$").replace(",", "")
    if not plain:
        return 0
    try:
        amount = Decimal(plain) * 1_000_000
    except InvalidOperation:
        raise Unprocessable(f"{what} is written like 4.99.") from None
    if not amount.is_finite() or amount != amount.to_integral_value() or not 0 <= amount <= 10**13:
        raise Unprocessable(f"{what} must be between $0 and $10,000,000, with at most six digits after the point.")
    return int(amount)


def dollars_of(micros: int) -> str:
    """An amount as a form field shows it: `4.99`."""
    if not micros:
        return ""
    whole, fraction = divmod(micros, 1_000_000)
    digits = f"{fraction:06d}".rstrip("0")
    return f"{whole}.{digits.ljust(2, '0')}" if digits else str(whole)
