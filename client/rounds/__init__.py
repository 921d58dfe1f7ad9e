"""One round at the data owner, from a request to a signed answer; it knows no network and no terminal."""
