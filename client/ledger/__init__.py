"""The privacy ledger: it records what is spent on each data set before it is spent."""
