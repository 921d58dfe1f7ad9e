"""POST, stage 3: a prompt tuned on the proxy becomes a prompt of the target, on public text alone."""
