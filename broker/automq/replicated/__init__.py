"""Replicated state machines: how the controller and the coordinators change state.

Not here: what the states are. `controller` and `coordinators` bring the machines, `metadata` and `partition` the logs.
"""
