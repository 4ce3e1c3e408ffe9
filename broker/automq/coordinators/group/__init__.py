"""Consumer groups: who is in a group, what each member reads, and how far the group has read.

`coordinator` is the shell: it owns partitions of `__consumer_offsets`, time and the requests that wait. All it does is
decided by pure modules: `shard` routes a request to its group, `join`, `rebalance` and `membership` are the classic
protocol, `offsets` the committed offsets, `records` the bytes in the log.
"""
