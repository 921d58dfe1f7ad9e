"""Everything that knows Flower: its server in this process, and the exchange of requests and replies over it."""
