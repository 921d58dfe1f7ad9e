"""Alembic's environment: runs every command on the given connection, inside its open transaction."""

from alembic import context

from coordinator.store import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.ClientRow.metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
