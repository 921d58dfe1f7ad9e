"""A frozen language model behind a soft prompt: its answers, its losses, each record's gradient, its self-check."""
