"""Private text: the only code that opens it, keeps it in memory, or computes gradients of it."""
