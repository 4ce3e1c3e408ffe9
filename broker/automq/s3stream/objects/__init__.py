"""The object format: how streams' batches lie in an object, how one is written and read."""
