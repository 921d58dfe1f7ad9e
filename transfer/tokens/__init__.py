"""A task's question as tokens of one tokeniser, and the places where a model's answer is read."""
