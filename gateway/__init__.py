"""The gateway: asks every archive at once and says honestly what was and was not searched."""
