"""Object compaction in a process of its own."""
