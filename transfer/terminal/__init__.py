"""The frame of all three commands: arguments, results, errors, `doctor`; no other room here imports it."""
