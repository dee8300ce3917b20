"""A copy of the whole data folder, made while the agent runs and imports happen. See docs/operations.md#backup-and-restore."""
