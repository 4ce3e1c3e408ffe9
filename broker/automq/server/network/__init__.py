"""Connections of clients: from the bytes of a socket to a handler, and from its answer to the socket."""
