"""The private side: the only code that may hold a data owner's text."""
