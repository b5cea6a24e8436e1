"""Personal data of the marketplace of models and agents: what was bought stays under ids, words and names go."""

from __future__ import annotations

from sqlalchemy import ScalarSelect, Select, select

from agentcache_service.money.billing_tables import PaymentAttempt
from agentcache_service.personal import Answer, Blank, Keep, Nothing

from .sales import PURPOSE
from .tables import (
    AccessKey,
    CallWindow,
    Creator,
    Download,
    Listing,
    ListingCredential,
    ListingVersion,
    Message,
    ModelCall,
    ModerationCase,
    Purchase,
    Review,
    SaleRecord,
)

_OURS = "one of our own words"
_FIGURES = {"kind": _OURS, "status": _OURS}
ERASED = "erased"


def _bought(org: str) -> Select[str]:
    return select(Purchase.id).where(Purchase.org_id == org)


def _sold(org: str) -> Select[str]:
    return select(Purchase.id).where(Purchase.creator_org_id == org)


def _either(org: str) -> Select[str]:
    return select(Purchase.id).where((Purchase.org_id == org) | (Purchase.creator_org_id == org))


def _listed(org: str) -> Select[str]:
    return select(Listing.id).where(Listing.org_id == org)


def _username(user: str) -> ScalarSelect[str]:
    from agentcache_service.identity.tables import User

    return select(User.username).where(User.id == user).scalar_subquery()


PERSONAL: tuple[Answer | Nothing, ...] = (
    # as buyer
    Answer(AccessKey, org=lambda org: AccessKey.org_id == org),
    Answer(CallWindow, org=lambda org: CallWindow.purchase_id.in_(_bought(org))),
    Answer(
        ModelCall,
        org=lambda org: ModelCall.purchase_id.in_(_bought(org)),
        erase_org=Blank({"path": "", "request_sha256": ""}),
        stays={"method": _OURS},
    ),
    Answer(
        Download,
        org=lambda org: Download.purchase_id.in_(_bought(org)),
        erase_org=Keep("that and when a bought package was fetched: ids only"),
        stays={"version": "a version number"},
    ),
    Answer(
        Review,
        person=lambda user: Review.author == _username(user),
        erase_person=Blank({"author": ERASED, "words": ""}),
        org=lambda org: Review.org_id == org,
        erase_org=Blank({"author": ERASED, "words": ""}),
    ),
    Answer(
        Message,
        person=lambda user: Message.user_id == user,
        erase_person=Blank({"words": ""}),
        org=lambda org: (
            ((Message.sender == "buyer") & Message.purchase_id.in_(_bought(org)))
            | ((Message.sender == "creator") & Message.purchase_id.in_(_sold(org)))
        ),
        erase_org=Blank({"words": ""}),
        shown=lambda org: Message.purchase_id.in_(_either(org)),
        stays={"sender": _OURS},
    ),
    Answer(
        ModerationCase,
        org=lambda org: ModerationCase.reporter_org_id == org,
        erase_org=Blank({"words": ""}),
        stays={"cause": _OURS, "findings": _OURS, "state": _OURS, "decision_note": _OURS, "appeal": "the creator's"},
        hidden=frozenset({"decided_by", "appeal", "decision_note"}),
    ),
    # as creator
    Answer(
        ModerationCase,
        org=lambda org: ModerationCase.org_id == org,
        erase_org=Blank({"findings": [], "appeal": "", "decision_note": ""}),
        stays={"cause": _OURS, "state": _OURS, "words": "the reporter's, erased with the reporter"},
        hidden=frozenset({"reporter_org_id", "decided_by", "words"}),
    ),
    Answer(ListingCredential, org=lambda org: ListingCredential.listing_id.in_(_listed(org))),
    Answer(
        ListingVersion,
        org=lambda org: ListingVersion.listing_id.in_(_listed(org)),
        erase_org=Blank({"notes": "", "readme": "", "findings": []}),
        stays={
            "version": "a version number",
            "package_cid": "names the package, which stays only where it was sold",
            "package_sha256": "names the package, which stays only where it was sold",
            "files": "the table of contents of a package that was sold; emptied where it was not",
        },
    ),
    Answer(
        Listing,
        org=lambda org: Listing.org_id == org,
        erase_org=Blank(
            {
                "name": ERASED,
                "summary": "",
                "description": "",
                "use_case": "",
                "tags": [],
                "config": {},
                "status": "inactive",
            }
        ),
        stays={"kind": _OURS, "category": _OURS, "pricing": _OURS, "version": "a version number"},
    ),
    Answer(Creator, org=lambda org: Creator.org_id == org, erase_org=Blank({"display_name": ERASED, "about": ""})),
    # both sides
    Answer(
        PaymentAttempt,  # a buyer's payment names the listing
        org=lambda org: (
            (PaymentAttempt.purpose == PURPOSE)
            & PaymentAttempt.subject_id.in_(select(SaleRecord.id).where(SaleRecord.purchase_id.in_(_sold(org))))
        ),
        erase_org=Blank({"description": ""}),
        shown=lambda org: PaymentAttempt.org_id == org,
        stays={"purpose": _OURS, "status": _OURS, "gateway": _OURS, "failure": "a code of the payment gateway"},
    ),
    Answer(
        SaleRecord,
        org=lambda org: SaleRecord.purchase_id.in_(_either(org)),
        erase_org=Keep("the cause of a ledger transaction: amount, commission and date"),
        stays=_FIGURES,
    ),
    Answer(
        Purchase,
        org=lambda org: (Purchase.org_id == org) | (Purchase.creator_org_id == org),
        erase_org=Keep("what was sold for how much: the cause of ledger transactions, under ids"),
        stays={
            **_FIGURES,
            "pricing": _OURS,
            "currency": _OURS,
            "payment_intent": "the id of a payment attempt",
        },
    ),
)
