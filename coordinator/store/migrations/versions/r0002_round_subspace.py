"""Rounds remember the directions clients were asked to tune in."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; earlier rounds tuned in all directions."""
    op.add_column("rounds", sa.Column("subspace", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("rounds", "subspace")
