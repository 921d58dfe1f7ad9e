"""Secrets at rest: a data owner's keys, and the encryption of what a client stores."""
