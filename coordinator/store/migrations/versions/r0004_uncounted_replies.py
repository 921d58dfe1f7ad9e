"""Rounds remember what came in and does not count, each with its reason."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NAME = sa.String(63)
SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table; a second reply used to fail its campaign and was kept nowhere."""
    op.create_table(
        "uncounted",
        sa.Column("id", SEQUENCE, nullable=False),
        sa.Column("campaign", NAME, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("client", NAME, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=True),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign", "number"],
            ["rounds.campaign", "rounds.number"],
            name=op.f("fk_uncounted_campaign_number"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uncounted")),
    )


def downgrade() -> None:
    """Drop the table; what counts is elsewhere."""
    op.drop_table("uncounted")
