"""Personal data of the cache API's tables; cached content itself is removed by `identity.privacy.wipe`."""

from __future__ import annotations

from agentcache_service.cacheapi.tables import AssetRecord, Listener, PrewarmSchedule
from agentcache_service.personal import Answer, Nothing

PERSONAL: tuple[Answer | Nothing, ...] = (
    Answer(Listener, org=lambda org: Listener.org_id == org),
    Answer(PrewarmSchedule, org=lambda org: PrewarmSchedule.org_id == org),
    Answer(AssetRecord, org=lambda org: AssetRecord.org_id == org),
)
