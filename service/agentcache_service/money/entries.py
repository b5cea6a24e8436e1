"""The kinds of money movement, each as one pure function from its figures to a balanced transaction.

A sale credits its creator at once. A refund empties into `refunds:due` first and leaves cash when the gateway
confirms it, so that a refund the gateway refuses is visible as a balance that never cleared. Payouts pass through
`payouts:in_flight` and disputes through `disputes:held` for the same reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from . import accounts
from .postings import USD, Posting, Transaction, reversed_lines, split

Payee = Literal["creator", "affiliate"]


@dataclass(frozen=True, slots=True)
class Sale:
    """One charge for a listing: who sold it, for how much, and the commission fixed when it was sold."""

    id: str
    creator: str
    amount: int
    fee_bps: int
    gateway: str
    currency: str = USD

    def lines(self) -> tuple[Posting, ...]:
        """What the sale books against cash: the platform's fee and the creator's rest."""
        fee, rest = split(self.amount, self.fee_bps)
        return (
            Posting(accounts.REVENUE_COMMISSION, -fee, self.currency),
            Posting(accounts.creator(self.creator), -rest, self.currency),
        )


def sale(item: Sale, at: datetime) -> Transaction:
    """Cash in; fee to the platform, the rest owed to the creator."""
    received = Posting(accounts.cash(item.gateway), item.amount, item.currency)
    return Transaction("sale", item.id, "sale", (received, *item.lines()), at)


def refund(item: Sale, at: datetime) -> Transaction:
    """The whole sale taken back: the fee and the creator's rest become money due to the buyer."""
    due = Posting(accounts.REFUNDS_DUE, -item.amount, item.currency)
    return Transaction("refund", item.id, "refund", (*reversed_lines(item.lines()), due), at)


def refund_settled(item: Sale, at: datetime) -> Transaction:
    """The gateway has returned the buyer's money."""
    lines = (
        Posting(accounts.REFUNDS_DUE, item.amount, item.currency),
        Posting(accounts.cash(item.gateway), -item.amount, item.currency),
    )
    return Transaction("refund_settled", item.id, "refund", lines, at)


def dispute_opened(item: Sale, at: datetime) -> Transaction:
    """The buyer's bank has taken the money back until the dispute is decided."""
    lines = (
        Posting(accounts.DISPUTES_HELD, item.amount, item.currency),
        Posting(accounts.cash(item.gateway), -item.amount, item.currency),
    )
    return Transaction("dispute_opened", item.id, "dispute", lines, at)


def dispute_won(item: Sale, at: datetime) -> Transaction:
    """The bank has given the money back: the sale stands."""
    opened = dispute_opened(item, at)
    return Transaction("dispute_closed", item.id, "dispute", reversed_lines(opened.postings), at, "won")


def dispute_lost(item: Sale, at: datetime, fee: int = 0) -> Transaction:
    """The money stays with the buyer: the sale is reversed, and the bank's fee is the platform's cost."""
    lines = [*reversed_lines(item.lines()), Posting(accounts.DISPUTES_HELD, -item.amount, item.currency)]
    if fee:
        lines.append(Posting(accounts.EXPENSE_DISPUTES, fee, item.currency))
        lines.append(Posting(accounts.cash(item.gateway), -fee, item.currency))
    return Transaction("dispute_closed", item.id, "dispute", tuple(lines), at, "lost")


def plan_payment(invoice_id: str, amount: int, *, gateway: str, at: datetime, memo: str = "") -> Transaction:
    """A customer has paid for their own plan."""
    lines = (Posting(accounts.cash(gateway), amount), Posting(accounts.REVENUE_PLANS, -amount))
    return Transaction("plan_payment", invoice_id, "plan", lines, at, memo)


def plan_refund(invoice_id: str, amount: int, *, gateway: str, at: datetime) -> Transaction:
    """A customer's plan payment was returned by the gateway."""
    lines = (Posting(accounts.REVENUE_PLANS, amount), Posting(accounts.cash(gateway), -amount))
    return Transaction("plan_refund", invoice_id, "refund", lines, at)


def commission(commission_id: str, slug: str, *, org_id: str, amount: int, share_bps: int, at: datetime) -> Transaction:
    """A partner's approved commission: owed by the partner, and by us the referrer's share; the rest is revenue."""
    share, rest = split(amount, share_bps)
    lines = (
        Posting(accounts.partner(slug), amount),
        Posting(accounts.affiliate(org_id), -share),
        Posting(accounts.REVENUE_AFFILIATE, -rest),
    )
    return Transaction("commission", commission_id, "commission", lines, at)


def commission_clawback(commission_id: str, original: Transaction, at: datetime) -> Transaction:
    """The negative line after a refund of what a commission was earned on; the original is never edited."""
    lines = reversed_lines(original.postings)
    return Transaction("commission_clawback", commission_id, "clawback", lines, at)


def partner_payment(invoice_id: str, slug: str, *, amount: int, at: datetime) -> Transaction:
    """A partner has paid an invoice by bank transfer."""
    lines = (Posting(accounts.cash("bank"), amount), Posting(accounts.partner(slug), -amount))
    return Transaction("partner_payment", invoice_id, "partner", lines, at)


def _payable(payee: Payee, org_id: str) -> str:
    return accounts.creator(org_id) if payee == "creator" else accounts.affiliate(org_id)


def payout_started(payout_id: str, payee: Payee, *, org_id: str, amount: int, at: datetime) -> Transaction:
    """What we owe is on its way: no longer payable, not yet out of cash."""
    lines = (Posting(_payable(payee, org_id), amount), Posting(accounts.PAYOUTS_IN_FLIGHT, -amount))
    return Transaction("payout_started", payout_id, "payout", lines, at)


def payout_paid(payout_id: str, amount: int, *, gateway: str, at: datetime) -> Transaction:
    """The payout has left cash."""
    lines = (Posting(accounts.PAYOUTS_IN_FLIGHT, amount), Posting(accounts.cash(gateway), -amount))
    return Transaction("payout_finished", payout_id, "payout", lines, at, "paid")


def payout_failed(payout_id: str, payee: Payee, *, org_id: str, amount: int, at: datetime) -> Transaction:
    """The gateway could not pay: the amount is owed again."""
    lines = (Posting(accounts.PAYOUTS_IN_FLIGHT, amount), Posting(_payable(payee, org_id), -amount))
    return Transaction("payout_finished", payout_id, "payout", lines, at, "failed")
