"""The write-ahead log: the one durable write on the path of an acknowledgement."""
