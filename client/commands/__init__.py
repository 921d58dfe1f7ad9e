"""The `promptferry-client` command: what a data owner types, and the only room of this side with a terminal."""
