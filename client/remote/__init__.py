"""The gRPC connection of data owners and recipients to a coordinator; nothing it returns is verified."""
