"""Secrets at rest: a data owner's keys, and the encryption of everything a client keeps on disk."""
