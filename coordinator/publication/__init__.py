"""What happens after the last round: a prompt is transferred, compared with its baselines, signed, published."""
