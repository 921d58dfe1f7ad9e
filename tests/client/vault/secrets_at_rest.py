"""What tests of this room share."""

OLD, NEW = b"an old passphrase", b"a new passphrase"
