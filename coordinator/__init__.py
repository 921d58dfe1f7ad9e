"""The model owner's side: the only code that may hold the target model."""

import os

# gRPC reads both once, when it is first imported, and has no other switch for them. No ECDSA suite of TLS 1.2
# is listed, and our server certificates are ECDSA: TLS 1.3 is left, whose suites cannot be turned off.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES256-GCM-SHA384"
# Its own log writes several lines for each refused handshake; what matters of them is in our errors.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
