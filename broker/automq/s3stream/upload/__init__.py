"""From WAL to objects: in normal life block by block, after a crash slot by slot."""
