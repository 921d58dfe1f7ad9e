"""A frozen language model behind a soft prompt: its answers, its losses, each record's gradient, its self-check."""

from transfer.models.loading import load as load  # for scripts outside this tree, in whatever module it is
