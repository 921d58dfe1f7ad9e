"""PANDA: choose a prompt of the library that starts and teaches a transfer, or none."""
