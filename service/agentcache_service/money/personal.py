"""Personal data of money: books are kept as the law demands, under ids; names, addresses and cards go."""

from __future__ import annotations

from sqlalchemy import select

from agentcache_service.personal import Answer, Blank, Keep, Nothing

from .billing_tables import (
    BillingAccount,
    IdempotencyRecord,
    Invoice,
    PaymentAttempt,
    Payout,
    ReceivedEvent,
    Subscription,
)
from .tables import LedgerPosting, LedgerTransaction

_OURS = "one of our own words"
_GATEWAY = "an id or code of the payment gateway"

PERSONAL: tuple[Answer | Nothing, ...] = (
    Answer(BillingAccount, org=lambda org: BillingAccount.org_id == org),
    Answer(IdempotencyRecord, org=lambda org: IdempotencyRecord.org_id == org),
    Answer(
        Invoice,
        org=lambda org: (Invoice.kind == "plan") & (Invoice.party == org),
        erase_org=Blank({"party_name": Invoice.party}),
        stays={
            "number": "invoices are numbered without gaps",
            "kind": _OURS,
            "party": "the organization's id",
            "reference": _OURS,
            "plan": _OURS,
            "lines": "plan, amount and period: the accounting record",
            "status": _OURS,
        },
    ),
    Answer(
        PaymentAttempt,
        org=lambda org: PaymentAttempt.org_id == org,
        erase_org=Blank({"description": ""}),
        stays={"purpose": _OURS, "status": _OURS, "gateway": _OURS, "failure": _GATEWAY},
    ),
    Answer(
        Subscription,
        org=lambda org: Subscription.org_id == org,
        erase_org=Keep("which plan was paid for and when it ended; it holds ids and dates"),
        stays={"plan": _OURS, "status": _OURS, "next_plan": _OURS},
    ),
    Answer(
        Payout,
        org=lambda org: Payout.org_id == org,
        erase_org=Keep("money that was sent: amount, date and the gateway's id of the transfer"),
        stays={"payee": _OURS, "status": _OURS, "gateway": _OURS, "failure": _GATEWAY},
    ),
    Answer(
        LedgerPosting,
        org=lambda org: LedgerPosting.account.in_((f"creator:{org}", f"affiliate:{org}")),
        erase_org=Keep("the ledger is append-only; its accounts are named by ids"),
        stays={"account": "names an id", "currency": _OURS},
    ),
    Answer(
        LedgerTransaction,
        org=lambda org: LedgerTransaction.id.in_(
            select(LedgerPosting.transaction_id).where(
                LedgerPosting.account.in_((f"creator:{org}", f"affiliate:{org}"))
            )
        ),
        erase_org=Keep("the ledger is append-only; it holds ids, dates and amounts"),
        stays={"source": _OURS, "kind": _OURS, "memo": "an invoice's number, or how a dispute ended"},
    ),
    Nothing(ReceivedEvent, "which events of the gateway were applied: its ids, no content"),
)
