"""The `promptferry` command: a recipient lists, fetches, verifies and tries published prompts."""
