"""States, reasons and steps of a broker's life: recovery, orderly end, last line."""
