"""What crosses between the sides: requests, replies, statements, signatures, and their bytes."""
