"""What a broker shows of itself and of its store: log lines, metrics, probes, and the tables that document them."""
