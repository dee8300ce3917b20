"""Cases against the clock: one request carried from acceptance to an answer, durable at every step, measured by its journal."""
