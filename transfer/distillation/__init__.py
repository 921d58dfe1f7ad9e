"""POST, stage 1: a proxy is cut from the target and learns the target's answers on public text."""
