"""The core that both sides share: values and pure functions.

Nothing here uses a network, a database or Flower, or reads private data. Reading order: `errors`, `prompt`, `tasks`,
`tokens`, `models`, `distillation`, `post`, `privacy`, `protocol`.
"""
