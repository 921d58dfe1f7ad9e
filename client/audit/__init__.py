"""Attacks on this installation that measure whether it keeps the ε it claims."""
