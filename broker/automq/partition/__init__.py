"""A Kafka partition as a log over a stream: what may be appended, what may be read, and what a new owner must know.

The pure modules (`validation`, `producer_state`, `leader_epochs`, `checkpoint`, `retention`, `fetch_session`) decide;
`partition`, `manager` and `purgatory` are the shell around them.
"""
