"""What tests of this room share."""

from transfer.post.settings import TransferSettings

QUICK = TransferSettings(steps=30, batch_size=8, learning_rate=0.05, check_every=5)
