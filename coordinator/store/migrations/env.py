"""Run by alembic for every command: on the connection we hand it, in the transaction that is open there."""

from alembic import context

from coordinator.store import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.ClientRow.metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
