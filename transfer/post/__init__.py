"""POST stage 3: turn a prompt tuned on the proxy into a prompt of the target, on public text alone."""
