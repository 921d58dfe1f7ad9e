"""Everything the coordinator remembers, in one SQL database; rows stay inside, values come out."""
