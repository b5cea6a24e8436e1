"""Marketplaces."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "market_0001"
down_revision = None
branch_labels = ("market",)
depends_on = "core_0001"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "affiliate_accounts",
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("opted_in_at", sa.DateTime(), nullable=True),
        sa.Column("terms_version", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("org_id", name=op.f("pk_affiliate_accounts")),
    )
    op.create_table(
        "affiliate_clicks",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("code", sa.String(length=255), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("visitor", sa.String(length=255), nullable=True),
        sa.Column("utm", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_affiliate_clicks")),
    )
    with op.batch_alter_table("affiliate_clicks", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_affiliate_clicks_code_at"), ["code", "at"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_affiliate_clicks_visitor_partner_at"), ["visitor", "partner", "at"], unique=False
        )

    op.create_table(
        "affiliate_commissions",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("event_id", sa.String(length=255), nullable=False),
        sa.Column("referral_id", sa.String(length=255), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("base", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("share", sa.BigInteger(), nullable=False),
        sa.Column("share_bps", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=255), nullable=False),
        sa.Column("hold_until", sa.DateTime(), nullable=False),
        sa.Column("reverses", sa.String(length=255), nullable=True),
        sa.Column("payout_id", sa.String(length=255), nullable=True),
        sa.Column("earned_at", sa.DateTime(), nullable=False),
        sa.Column("settled_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_affiliate_commissions")),
        sa.UniqueConstraint("partner", "event_id", name=op.f("uq_affiliate_commissions_partner_event_id")),
    )
    with op.batch_alter_table("affiliate_commissions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_affiliate_commissions_org_id"), ["org_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_affiliate_commissions_referral_id"), ["referral_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_affiliate_commissions_state_hold_until"), ["state", "hold_until"], unique=False
        )

    op.create_table(
        "affiliate_links",
        sa.Column("code", sa.String(length=255), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_affiliate_links")),
        sa.UniqueConstraint("org_id", "partner", name=op.f("uq_affiliate_links_org_id_partner")),
    )
    op.create_table(
        "affiliate_postbacks",
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("event_id", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("body_sha256", sa.String(length=255), nullable=False),
        sa.Column("received_at", sa.DateTime(), nullable=False),
        sa.Column("outcome", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("partner", "event_id", name=op.f("pk_affiliate_postbacks")),
    )
    op.create_table(
        "affiliate_referrals",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("customer", sa.String(length=255), nullable=False),
        sa.Column("click_id", sa.String(length=255), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("signed_up_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_affiliate_referrals")),
        sa.UniqueConstraint("partner", "customer", name=op.f("uq_affiliate_referrals_partner_customer")),
    )
    with op.batch_alter_table("affiliate_referrals", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_affiliate_referrals_org_id"), ["org_id"], unique=False)

    op.create_table(
        "integration_connections",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("method", sa.String(length=255), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("status", sa.String(length=255), nullable=False),
        sa.Column("account", sa.String(length=255), nullable=False),
        sa.Column("trouble", sa.Text(), nullable=False),
        sa.Column("connected_by", sa.String(length=255), nullable=False),
        sa.Column("connected_at", sa.DateTime(), nullable=False),
        sa.Column("disconnected_at", sa.DateTime(), nullable=True),
        sa.Column("last_used_at", sa.DateTime(), nullable=True),
        sa.Column("hits", sa.BigInteger(), nullable=False),
        sa.Column("misses", sa.BigInteger(), nullable=False),
        sa.Column("saved", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_integration_connections")),
        sa.UniqueConstraint("org_id", "partner", name=op.f("uq_integration_connections_org_id_partner")),
    )
    op.create_table(
        "integration_events",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("retry_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_integration_events")),
    )
    with op.batch_alter_table("integration_events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_integration_events_partner"), ["partner"], unique=False)

    op.create_table(
        "integration_jobs",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("action", sa.String(length=255), nullable=False),
        sa.Column("given", sa.JSON(), nullable=False),
        sa.Column("schedule", sa.String(length=255), nullable=True),
        sa.Column("state", sa.String(length=255), nullable=False),
        sa.Column("remote_id", sa.String(length=255), nullable=True),
        sa.Column("log", sa.JSON(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("next_at", sa.DateTime(), nullable=True),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_integration_jobs")),
    )
    with op.batch_alter_table("integration_jobs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_integration_jobs_org_id_partner"), ["org_id", "partner"], unique=False)
        batch_op.create_index(batch_op.f("ix_integration_jobs_state_next_at"), ["state", "next_at"], unique=False)

    op.create_table(
        "integration_pending",
        sa.Column("state_digest", sa.String(length=255), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("session_id", sa.String(length=255), nullable=False),
        sa.Column("partner", sa.String(length=255), nullable=False),
        sa.Column("sealed_verifier", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.Column("used_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("state_digest", name=op.f("pk_integration_pending")),
    )
    op.create_table(
        "market_creators",
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("display_name", sa.String(length=255), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", name=op.f("pk_market_creators")),
    )
    op.create_table(
        "market_listings",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("summary", sa.String(length=255), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("category", sa.String(length=255), nullable=False),
        sa.Column("use_case", sa.String(length=255), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=255), nullable=False),
        sa.Column("pricing", sa.String(length=255), nullable=False),
        sa.Column("price", sa.BigInteger(), nullable=False),
        sa.Column("price_per_call", sa.BigInteger(), nullable=False),
        sa.Column("price_per_1k_tokens", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.String(length=255), nullable=False),
        sa.Column("rating_sum", sa.BigInteger(), nullable=False),
        sa.Column("rating_count", sa.BigInteger(), nullable=False),
        sa.Column("sales", sa.BigInteger(), nullable=False),
        sa.Column("downloads", sa.BigInteger(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("call_ms", sa.BigInteger(), nullable=False),
        sa.Column("checks", sa.BigInteger(), nullable=False),
        sa.Column("checks_ok", sa.BigInteger(), nullable=False),
        sa.Column("check_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.Column("published_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_market_listings")),
    )
    with op.batch_alter_table("market_listings", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_market_listings_org_id"), ["org_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_market_listings_status_category"), ["status", "category"], unique=False)

    op.create_table(
        "market_windows",
        sa.Column("purchase_id", sa.String(length=255), nullable=False),
        sa.Column("window", sa.String(length=255), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("purchase_id", "window", name=op.f("pk_market_windows")),
    )
    with op.batch_alter_table("market_windows", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_market_windows_ends_at"), ["ends_at"], unique=False)

    op.create_table(
        "market_cases",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("listing_id", sa.String(length=255), nullable=False),
        sa.Column("review_id", sa.String(length=255), nullable=True),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("cause", sa.String(length=255), nullable=False),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=255), nullable=False),
        sa.Column("reporter_org_id", sa.String(length=255), nullable=True),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.String(length=255), nullable=True),
        sa.Column("decision_note", sa.Text(), nullable=False),
        sa.Column("appeal", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(), nullable=False),
        sa.Column("decided_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["listing_id"], ["market_listings.id"], name=op.f("fk_market_cases_listing_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_market_cases")),
    )
    with op.batch_alter_table("market_cases", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_market_cases_listing_id"), ["listing_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_market_cases_org_id"), ["org_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_market_cases_state"), ["state"], unique=False)

    op.create_table(
        "market_credentials",
        sa.Column("listing_id", sa.String(length=255), nullable=False),
        sa.Column("cid", sa.String(length=255), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=True),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["listing_id"], ["market_listings.id"], name=op.f("fk_market_credentials_listing_id")),
        sa.PrimaryKeyConstraint("listing_id", name=op.f("pk_market_credentials")),
    )
    op.create_table(
        "market_purchases",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("listing_id", sa.String(length=255), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("creator_org_id", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("pricing", sa.String(length=255), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=255), nullable=False),
        sa.Column("price_per_call", sa.BigInteger(), nullable=False),
        sa.Column("price_per_1k_tokens", sa.BigInteger(), nullable=False),
        sa.Column("fee_bps", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=255), nullable=False),
        sa.Column("payment_intent", sa.String(length=255), nullable=True),
        sa.Column("access_until", sa.DateTime(), nullable=True),
        sa.Column("transferred_at", sa.DateTime(), nullable=True),
        sa.Column("renews", sa.Boolean(), nullable=False),
        sa.Column("period", sa.BigInteger(), nullable=False),
        sa.Column("cache_calls", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("completed_at", sa.DateTime(), nullable=True),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["listing_id"], ["market_listings.id"], name=op.f("fk_market_purchases_listing_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_market_purchases")),
    )
    with op.batch_alter_table("market_purchases", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_market_purchases_creator_org_id"), ["creator_org_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_market_purchases_listing_id"), ["listing_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_market_purchases_org_id_listing_id"), ["org_id", "listing_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_market_purchases_renews_access_until"), ["renews", "access_until"], unique=False
        )

    op.create_table(
        "market_reviews",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("listing_id", sa.String(length=255), nullable=False),
        sa.Column("purchase_id", sa.String(length=255), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("author", sa.String(length=255), nullable=False),
        sa.Column("rating", sa.BigInteger(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("hidden", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["listing_id"], ["market_listings.id"], name=op.f("fk_market_reviews_listing_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_market_reviews")),
        sa.UniqueConstraint("listing_id", "org_id", name=op.f("uq_market_reviews_listing_id_org_id")),
    )
    op.create_table(
        "market_versions",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("listing_id", sa.String(length=255), nullable=False),
        sa.Column("version", sa.String(length=255), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("package_cid", sa.String(length=255), nullable=True),
        sa.Column("package_sha256", sa.String(length=255), nullable=True),
        sa.Column("package_bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.Column("readme", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["listing_id"], ["market_listings.id"], name=op.f("fk_market_versions_listing_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_market_versions")),
        sa.UniqueConstraint("listing_id", "version", name=op.f("uq_market_versions_listing_id_version")),
    )
    op.create_table(
        "market_calls",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("purchase_id", sa.String(length=255), nullable=False),
        sa.Column("listing_id", sa.String(length=255), nullable=False),
        sa.Column("key_id", sa.String(length=255), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("method", sa.String(length=255), nullable=False),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("request_bytes", sa.BigInteger(), nullable=False),
        sa.Column("request_sha256", sa.String(length=255), nullable=False),
        sa.Column("response_bytes", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("milliseconds", sa.BigInteger(), nullable=False),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.Column("saved", sa.BigInteger(), nullable=False),
        sa.Column("sale_id", sa.String(length=255), nullable=True),
        sa.ForeignKeyConstraint(["purchase_id"], ["market_purchases.id"], name=op.f("fk_market_calls_purchase_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_market_calls")),
    )
    with op.batch_alter_table("market_calls", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_market_calls_listing_id_at"), ["listing_id", "at"], unique=False)
        batch_op.create_index(batch_op.f("ix_market_calls_purchase_id_at"), ["purchase_id", "at"], unique=False)
        batch_op.create_index(batch_op.f("ix_market_calls_sale_id"), ["sale_id"], unique=False)

    op.create_table(
        "market_downloads",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("purchase_id", sa.String(length=255), nullable=False),
        sa.Column("listing_id", sa.String(length=255), nullable=False),
        sa.Column("version", sa.String(length=255), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["purchase_id"], ["market_purchases.id"], name=op.f("fk_market_downloads_purchase_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_market_downloads")),
    )
    with op.batch_alter_table("market_downloads", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_market_downloads_listing_id"), ["listing_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_market_downloads_purchase_id"), ["purchase_id"], unique=False)

    op.create_table(
        "market_keys",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("purchase_id", sa.String(length=255), nullable=False),
        sa.Column("listing_id", sa.String(length=255), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=255), nullable=False),
        sa.Column("last4", sa.String(length=255), nullable=False),
        sa.Column("permissions", sa.JSON(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=True),
        sa.Column("last_used_at", sa.DateTime(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["purchase_id"], ["market_purchases.id"], name=op.f("fk_market_keys_purchase_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_market_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_market_keys_digest")),
    )
    with op.batch_alter_table("market_keys", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_market_keys_purchase_id"), ["purchase_id"], unique=False)

    op.create_table(
        "market_messages",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("purchase_id", sa.String(length=255), nullable=False),
        sa.Column("sender", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["purchase_id"], ["market_purchases.id"], name=op.f("fk_market_messages_purchase_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_market_messages")),
    )
    with op.batch_alter_table("market_messages", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_market_messages_purchase_id"), ["purchase_id"], unique=False)

    op.create_table(
        "market_sales",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("purchase_id", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("fee_bps", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("paid_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["purchase_id"], ["market_purchases.id"], name=op.f("fk_market_sales_purchase_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_market_sales")),
        sa.UniqueConstraint("purchase_id", "kind", "serial", name=op.f("uq_market_sales_purchase_id_kind_serial")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("market_sales")
    with op.batch_alter_table("market_messages", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_market_messages_purchase_id"))

    op.drop_table("market_messages")
    with op.batch_alter_table("market_keys", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_market_keys_purchase_id"))

    op.drop_table("market_keys")
    with op.batch_alter_table("market_downloads", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_market_downloads_purchase_id"))
        batch_op.drop_index(batch_op.f("ix_market_downloads_listing_id"))

    op.drop_table("market_downloads")
    with op.batch_alter_table("market_calls", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_market_calls_sale_id"))
        batch_op.drop_index(batch_op.f("ix_market_calls_purchase_id_at"))
        batch_op.drop_index(batch_op.f("ix_market_calls_listing_id_at"))

    op.drop_table("market_calls")
    op.drop_table("market_versions")
    op.drop_table("market_reviews")
    with op.batch_alter_table("market_purchases", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_market_purchases_renews_access_until"))
        batch_op.drop_index(batch_op.f("ix_market_purchases_org_id_listing_id"))
        batch_op.drop_index(batch_op.f("ix_market_purchases_listing_id"))
        batch_op.drop_index(batch_op.f("ix_market_purchases_creator_org_id"))

    op.drop_table("market_purchases")
    op.drop_table("market_credentials")
    with op.batch_alter_table("market_cases", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_market_cases_state"))
        batch_op.drop_index(batch_op.f("ix_market_cases_org_id"))
        batch_op.drop_index(batch_op.f("ix_market_cases_listing_id"))

    op.drop_table("market_cases")
    with op.batch_alter_table("market_windows", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_market_windows_ends_at"))

    op.drop_table("market_windows")
    with op.batch_alter_table("market_listings", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_market_listings_status_category"))
        batch_op.drop_index(batch_op.f("ix_market_listings_org_id"))

    op.drop_table("market_listings")
    op.drop_table("market_creators")
    op.drop_table("integration_pending")
    with op.batch_alter_table("integration_jobs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_integration_jobs_state_next_at"))
        batch_op.drop_index(batch_op.f("ix_integration_jobs_org_id_partner"))

    op.drop_table("integration_jobs")
    with op.batch_alter_table("integration_events", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_integration_events_partner"))

    op.drop_table("integration_events")
    op.drop_table("integration_connections")
    with op.batch_alter_table("affiliate_referrals", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_affiliate_referrals_org_id"))

    op.drop_table("affiliate_referrals")
    op.drop_table("affiliate_postbacks")
    op.drop_table("affiliate_links")
    with op.batch_alter_table("affiliate_commissions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_affiliate_commissions_state_hold_until"))
        batch_op.drop_index(batch_op.f("ix_affiliate_commissions_referral_id"))
        batch_op.drop_index(batch_op.f("ix_affiliate_commissions_org_id"))

    op.drop_table("affiliate_commissions")
    with op.batch_alter_table("affiliate_clicks", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_affiliate_clicks_visitor_partner_at"))
        batch_op.drop_index(batch_op.f("ix_affiliate_clicks_code_at"))

    op.drop_table("affiliate_clicks")
    op.drop_table("affiliate_accounts")
