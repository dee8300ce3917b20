"""The HTTP edge: reads and limits requests, checks tokens, renders answers and problems. Knows nothing of archives."""
