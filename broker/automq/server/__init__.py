"""Sockets, settings, wiring and life cycle of one broker process."""
