"""Personal data of accounts, organizations, the audit log and the outbox."""

from __future__ import annotations

from agentcache_service.audit_tables import AuditEvent
from agentcache_service.identity.tables import (
    ApiKey,
    LoginSession,
    Membership,
    Namespace,
    OneTimeToken,
    Org,
    RecoveryCode,
    User,
)
from agentcache_service.jobs_tables import Job
from agentcache_service.personal import Answer, Blank, Nothing

NOBODY = "erased"
_OURS = "one of our own words"

PERSONAL: tuple[Answer | Nothing, ...] = (
    Answer(RecoveryCode, person=lambda user: RecoveryCode.user_id == user),
    Answer(OneTimeToken, person=lambda user: OneTimeToken.user_id == user),
    Answer(LoginSession, person=lambda user: LoginSession.user_id == user),
    Answer(
        AuditEvent,
        person=lambda user: (AuditEvent.actor == user) | (AuditEvent.target == user),
        erase_person=Blank({"address": ""}),
        org=lambda org: AuditEvent.org_id == org,
        erase_org=Blank({"address": "", "target": "", "detail": {}}),
        stays={"action": _OURS},
    ),
    Answer(
        User,
        person=lambda user: User.id == user,
        erase_person=Blank(
            {
                "email": User.id + "@erased.invalid",
                "username": User.id,
                "first_name": "",
                "last_name": "",
                "avatar_url": None,
                "password_hash": "",
                "totp_sealed": None,
                "totp_confirmed_at": None,
                "totp_last_step": None,
                "platform_role": "user",
            }
        ),
    ),
    Answer(
        Membership,
        person=lambda user: Membership.user_id == user,
        org=lambda org: Membership.org_id == org,
    ),
    Answer(ApiKey, org=lambda org: ApiKey.org_id == org),
    Answer(Namespace, org=lambda org: Namespace.org_id == org),
    Answer(Job, org=lambda org: Job.org_id == org),
    Answer(
        Org,
        org=lambda org: Org.id == org,
        erase_org=Blank(
            {
                "slug": Org.id,
                "name": NOBODY,
                "description": "",
                "settings": {"weekly_report": False},
                "trial_ends_at": None,
                "plan": "free",
            }
        ),
        stays={"sector": _OURS},
    ),
)
