"""Schedules of prewarming; webhooks that are gone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "cacheapi_0003"
down_revision = "cacheapi_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""

    op.create_table(
        "prewarm_schedules",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("namespace", sa.String(length=255), nullable=False),
        sa.Column("expression", sa.String(length=255), nullable=False),
        sa.Column("items", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("next_run_at", sa.DateTime(), nullable=False),
        sa.Column("last_job", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["orgs.id"], name=op.f("fk_prewarm_schedules_org_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prewarm_schedules")),
    )
    with op.batch_alter_table("prewarm_schedules", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_prewarm_schedules_next_run_at"), ["next_run_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_prewarm_schedules_org_id"), ["org_id"], unique=False)

    with op.batch_alter_table("listeners", schema=None) as batch_op:
        batch_op.add_column(sa.Column("webhook_gone_at", sa.DateTime(), nullable=True))


def downgrade() -> None:
    """Take back."""

    with op.batch_alter_table("listeners", schema=None) as batch_op:
        batch_op.drop_column("webhook_gone_at")

    with op.batch_alter_table("prewarm_schedules", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_prewarm_schedules_org_id"))
        batch_op.drop_index(batch_op.f("ix_prewarm_schedules_next_run_at"))

    op.drop_table("prewarm_schedules")
