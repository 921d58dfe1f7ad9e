"""The privacy ledger: what is spent on each data set, written down before it is spent."""
