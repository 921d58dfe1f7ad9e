"""Where a model is, in what numbers it computes, and what it keeps in memory."""
