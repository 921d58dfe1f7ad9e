"""What the sides exchange: requests, replies, statements, signatures, and their bytes."""
