"""Personal data of integrations and affiliates: connections go with their credentials, earnings stay under ids."""

from __future__ import annotations

from agentcache_service.personal import Answer, Blank, Keep, Nothing

from .integration_tables import (
    AffiliateAccount,
    AffiliateLink,
    Click,
    Commission,
    Connection,
    ForwardEvent,
    PartnerJob,
    PendingConnect,
    Postback,
    Referral,
)

_OURS = "one of our own words"
_PARTNER = "the name of a partner"

PERSONAL: tuple[Answer | Nothing, ...] = (
    Answer(
        PendingConnect, person=lambda user: PendingConnect.user_id == user, org=lambda org: PendingConnect.org_id == org
    ),
    Answer(Connection, org=lambda org: Connection.org_id == org),
    Answer(ForwardEvent, org=lambda org: ForwardEvent.org_id == org),
    Answer(PartnerJob, org=lambda org: PartnerJob.org_id == org),
    Answer(AffiliateAccount, org=lambda org: AffiliateAccount.org_id == org),
    Answer(AffiliateLink, org=lambda org: AffiliateLink.org_id == org),
    Answer(
        Click,
        org=lambda org: Click.org_id == org,
        erase_org=Blank({"visitor": None, "utm": {}}),
        stays={"code": "a random code", "partner": _PARTNER},
        hidden=frozenset({"visitor"}),
    ),
    Answer(
        Referral,
        org=lambda org: Referral.org_id == org,
        erase_org=Keep("what commissions were earned on"),
        stays={"partner": _PARTNER, "customer": "the partner's id of its customer, who is somebody else"},
        hidden=frozenset({"customer"}),
    ),
    Answer(
        Commission,
        org=lambda org: Commission.org_id == org,
        erase_org=Keep("the cause of ledger transactions and of a partner's invoice"),
        stays={"partner": _PARTNER, "kind": _OURS, "state": _OURS, "reverses": "the id of another commission"},
    ),
    Nothing(Postback, "which events of partners were applied: their ids and digests, no content"),
)
