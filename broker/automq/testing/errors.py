"""What may go wrong with a broker for tests."""


class BrokerDidNotStart(Exception):
    """The broker ended, or did not serve in time; the message has what it said."""
