"""The only code that uses Flower: its server in this process, and the exchange of requests and replies over it."""
