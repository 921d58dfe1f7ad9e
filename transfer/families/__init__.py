"""Differences between model families: how they load, where their parts are, what a pass may leave out."""
