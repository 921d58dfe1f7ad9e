"""Publication after the last round: transfer the prompt, compare it with its baselines, sign and publish it."""
