"""Pure: one planner a module, each `(view) -> Proposal`. They do not know each other; `reconcile` merges them."""
