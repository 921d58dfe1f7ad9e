"""The `promptferry-coordinator` command: the operator's commands and the serving process."""
