"""The core both sides trust: values and pure functions.

Nothing here touches a network, a database, Flower or private data. Reading order: `errors`, `prompt`,
`tasks`, `models`, `objectives`, `proxy`, `post`, `evaluation`, `privacy`, `signing`, `rounds`, `wire`.
"""
