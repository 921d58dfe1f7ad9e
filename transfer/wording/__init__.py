"""The wording of a task's question: formats that mean the same, and how far a model's answers depend on them."""
