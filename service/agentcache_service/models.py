"""Every table of the service: importing this module fills `Base.metadata`.

Tables live beside the code that owns them, in `<area>/tables.py`. An area is added by one line here.
"""

from __future__ import annotations

from agentcache_service import audit_tables, jobs_tables
from agentcache_service.cacheapi import tables as cacheapi_tables
from agentcache_service.identity import tables as identity_tables
from agentcache_service.market import integration_tables
from agentcache_service.market import tables as market_tables
from agentcache_service.money import billing_tables
from agentcache_service.money import tables as ledger_tables
from agentcache_service.orm import Base
from agentcache_service.usage import tables as usage_tables

AREAS = (
    audit_tables,
    jobs_tables,
    identity_tables,
    usage_tables,
    cacheapi_tables,
    ledger_tables,
    billing_tables,
    market_tables,
    integration_tables,
)

metadata = Base.metadata
