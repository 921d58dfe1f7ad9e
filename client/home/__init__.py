"""A client's directory on disk: its settings, its keys and ledger opened together, its one pinned coordinator."""
