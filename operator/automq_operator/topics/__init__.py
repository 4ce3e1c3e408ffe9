"""Topics as resources: what a user may write, what is to be done about it, and the requests for that."""
