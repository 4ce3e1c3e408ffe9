"""A broker under a load that never changes, for long: what grows with time is a finding. `make soak`.

Many partitions of three retention classes, most of which keep only seconds of what is written, groups that commit,
topics that come and go, a reader that follows from behind. Every few seconds the broker's memory and CPU, the bucket
and the metadata are looked at; at the end everything must have stayed as it was after the first minutes.
"""
