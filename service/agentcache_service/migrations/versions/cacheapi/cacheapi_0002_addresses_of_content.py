"""Addresses of content: what an asset's address answers never changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "cacheapi_0002"
down_revision = "cacheapi_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""

    with op.batch_alter_table("assets", schema=None) as batch_op:
        for name in ("address", "entry_name", "engine_digest"):
            batch_op.add_column(sa.Column(name, sa.String(length=255), nullable=False, server_default=""))
    op.execute("UPDATE assets SET address = id")
    with op.batch_alter_table("assets", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_assets_address"), ["address"], unique=False)
        batch_op.create_index(batch_op.f("ix_assets_entry_name"), ["entry_name"], unique=False)


def downgrade() -> None:
    """Take back."""

    with op.batch_alter_table("assets", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_assets_entry_name"))
        batch_op.drop_index(batch_op.f("ix_assets_address"))
        for name in ("engine_digest", "entry_name", "address"):
            batch_op.drop_column(name)
