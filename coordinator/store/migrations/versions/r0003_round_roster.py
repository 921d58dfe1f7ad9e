"""Rounds remember the keys of the clients that are asked."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; earlier rounds had no roster."""
    op.add_column("rounds", sa.Column("roster", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("rounds", "roster")
