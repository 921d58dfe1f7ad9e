"""POST stage 1: cut a proxy from the target and teach it the target's answers on public text."""
