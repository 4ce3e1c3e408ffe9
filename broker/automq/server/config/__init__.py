"""What a broker is told: settings, how each is declared, and what follows from them together."""
