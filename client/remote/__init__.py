"""A coordinator over gRPC, for data owners and recipients alike; nothing it returns is verified yet."""
