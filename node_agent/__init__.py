"""The node agent: one archive's own index, its rules, and its end of the session with the gateway."""
