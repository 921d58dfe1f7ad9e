"""The `promptferry-coordinator` command: what an operator types, and the process that serves."""
