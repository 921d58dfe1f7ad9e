"""One round at the data owner, from a request to a signed reply, without network or terminal."""
