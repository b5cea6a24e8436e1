"""Alembic's entry: runs the migrations on the connection that `agentcache_service.schema` hands over."""

from __future__ import annotations

from typing import Literal

from alembic import context

from agentcache_service.models import metadata
from agentcache_service.orm import UtcDateTime


def _render(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Write our column type as the plain one: a migration must not change when the code does."""
    return "sa.DateTime()" if kind == "type" and isinstance(item, UtcDateTime) else False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
    render_item=_render,
)
with context.begin_transaction():
    context.run_migrations()
