"""PANDA: whether a prompt of the library starts and teaches a transfer."""
