"""One module for each family of APIs, dataclasses only: one class a message for all its versions."""
