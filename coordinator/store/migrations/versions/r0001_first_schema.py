"""First schema: clients, proxies, campaigns with rounds and replies, prompt versions, the heartbeat.

A revision never changes once published, so types are spelt out here and not taken from `coordinator.store.tables`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NAME = sa.String(63)
DIGEST = sa.String(64)
STATE = sa.String(16)
TIME = sa.DateTime(timezone=True)
SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table."""
    _create_clients()
    _create_proxies()
    _create_campaigns()
    _create_rounds()
    _create_prompts()
    op.create_table(
        "heartbeat",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_heartbeat_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_heartbeat")),
    )


def downgrade() -> None:
    """Drop every table, dependent ones first."""
    op.drop_table("heartbeat")
    op.drop_table("prompt_files")
    op.drop_table("prompt_versions")
    op.drop_table("replies")
    op.drop_table("rounds")
    op.drop_index(op.f("ix_campaigns_state"), table_name="campaigns")
    op.drop_table("campaigns")
    op.drop_table("proxy_files")
    op.drop_table("proxies")
    op.drop_table("clients")


def _create_clients() -> None:
    op.create_table(
        "clients",
        sa.Column("name", NAME, nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("token_digest", DIGEST, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("expire_time", TIME, nullable=False),
        sa.Column("enrol_time", TIME, nullable=True),
        sa.Column("node_key", sa.LargeBinary(), nullable=True),
        sa.Column("signing_key", sa.LargeBinary(), nullable=True),
        sa.Column("node_id", sa.String(20), nullable=True),
        sa.CheckConstraint("state IN ('invited', 'enrolled', 'revoked')", name=op.f("ck_clients_state")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_clients")),
        sa.UniqueConstraint("node_key", name=op.f("uq_clients_node_key")),
        sa.UniqueConstraint("signing_key", name=op.f("uq_clients_signing_key")),
    )


def _create_proxies() -> None:
    op.create_table(
        "proxies",
        sa.Column("id", SEQUENCE, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("model_digest", DIGEST, nullable=False),
        sa.Column("parent_name", sa.Text(), nullable=False),
        sa.Column("parent_digest", DIGEST, nullable=False),
        sa.Column("layers", sa.JSON(), nullable=False),
        sa.Column("directory", sa.Text(), nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proxies")),
        sa.UniqueConstraint("name", name=op.f("uq_proxies_name")),
    )
    op.create_table(
        "proxy_files",
        sa.Column("proxy_id", SEQUENCE, nullable=False),
        sa.Column("path", sa.String(200), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.ForeignKeyConstraint(["proxy_id"], ["proxies.id"], name=op.f("fk_proxy_files_proxy_id")),
        sa.PrimaryKeyConstraint("proxy_id", "path", name=op.f("pk_proxy_files")),
    )


def _create_campaigns() -> None:
    states = "'pending', 'running', 'transferring', 'published', 'failed', 'aborted'"
    op.create_table(
        "campaigns",
        sa.Column("id", SEQUENCE, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("update_time", TIME, nullable=False),
        sa.CheckConstraint(f"state IN ({states})", name=op.f("ck_campaigns_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaigns")),
        sa.UniqueConstraint("name", name=op.f("uq_campaigns_name")),
    )
    op.create_index(op.f("ix_campaigns_state"), "campaigns", ["state"])


def _create_rounds() -> None:
    op.create_table(
        "rounds",
        sa.Column("campaign", NAME, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("start_prompt", sa.LargeBinary(), nullable=False),
        sa.Column("prompt", sa.LargeBinary(), nullable=True),
        sa.Column("open_time", TIME, nullable=False),
        sa.Column("close_time", TIME, nullable=True),
        sa.CheckConstraint("state IN ('open', 'closed')", name=op.f("ck_rounds_state")),
        sa.CheckConstraint("number >= 1", name=op.f("ck_rounds_number")),
        sa.ForeignKeyConstraint(["campaign"], ["campaigns.name"], name=op.f("fk_rounds_campaign")),
        sa.PrimaryKeyConstraint("campaign", "number", name=op.f("pk_rounds")),
    )
    op.create_table(
        "replies",
        sa.Column("campaign", NAME, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("client", NAME, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=True),
        sa.Column("create_time", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign", "number"],
            ["rounds.campaign", "rounds.number"],
            name=op.f("fk_replies_campaign_number"),
        ),
        sa.PrimaryKeyConstraint("campaign", "number", "client", name=op.f("pk_replies")),
    )


def _create_prompts() -> None:
    op.create_table(
        "prompt_versions",
        sa.Column("id", SEQUENCE, nullable=False),
        sa.Column("prompt", NAME, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("state IN ('published', 'revoked')", name=op.f("ck_prompt_versions_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompt_versions")),
        sa.UniqueConstraint("prompt", "version", name=op.f("uq_prompt_versions_prompt_version")),
    )
    op.create_table(
        "prompt_files",
        sa.Column("version_id", SEQUENCE, nullable=False),
        sa.Column("path", sa.String(200), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["prompt_versions.id"], name=op.f("fk_prompt_files_version_id")
        ),
        sa.PrimaryKeyConstraint("version_id", "path", name=op.f("pk_prompt_files")),
    )
