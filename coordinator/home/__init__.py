"""A coordinator's directory on disk: its settings, keys and certificates."""
