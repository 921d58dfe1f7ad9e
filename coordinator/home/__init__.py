"""The coordinator's directory on disk: settings, keys and certificates."""
