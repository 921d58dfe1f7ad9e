"""The `promptferry-client` command of a data owner; of the owner's rooms, only this one has a terminal."""
