"""The search feature: choose archives, ask them all under one deadline, merge, and account for every one."""
