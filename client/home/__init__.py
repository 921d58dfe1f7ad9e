"""A client's directory on disk: its settings, its keys and ledger, and its one pinned coordinator."""
