"""The private side: the only code that may hold a data owner's text."""

import os

# gRPC reads it once, when it is first imported: its log repeats our errors in several lines of its own.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
