"""One module for each API family: authorize, call one service, build the response."""
