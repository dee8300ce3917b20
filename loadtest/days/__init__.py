"""Days in virtual time: the real case engine with simulated people, and a plain queueing model that must agree."""
