"""The coordinator's persistent state in one SQL database; rows stay inside, callers get values."""
