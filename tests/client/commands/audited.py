"""What tests of this room share."""

import secrets

PLANTED = [secrets.token_hex(16) for _ in range(40)]
SMALL = "--only", "mechanism", "--trials", 200
