"""The chart of accounts: the only place that spells account names."""

from __future__ import annotations

from collections.abc import Mapping

REVENUE_COMMISSION = "revenue:commission"
REVENUE_PLANS = "revenue:plans"
REVENUE_AFFILIATE = "revenue:affiliate"
EXPENSE_DISPUTES = "expense:dispute_fees"
REFUNDS_DUE = "refunds:due"
DISPUTES_HELD = "disputes:held"
PAYOUTS_IN_FLIGHT = "payouts:in_flight"


def cash(gateway: str) -> str:
    """Money that lies with a payment gateway."""
    return f"cash:{gateway}"


def creator(org_id: str) -> str:
    """What we owe a creator for sales; a debit balance is owed to us after a refund that followed a payout."""
    return f"creator:{org_id}"


def affiliate(org_id: str) -> str:
    """What we owe a referrer for approved commissions."""
    return f"affiliate:{org_id}"


def partner(slug: str) -> str:
    """What a partner owes us for commissions; invoiced monthly."""
    return f"partner:{slug}"


def owed(balances: Mapping[str, int], account: str) -> int:
    """What a payable account owes its holder: its balance with the sign turned, so negative means they owe us."""
    return -balances.get(account, 0)
