"""Rounds remember which published prompts taught their start: their data owners' costs add up with this round's."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; no earlier round had such a start."""
    op.add_column("rounds", sa.Column("library", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("rounds", "library")
