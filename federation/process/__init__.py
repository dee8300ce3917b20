"""What a process of ours needs to run, whatever it computes: settings and their errors, log lines, files that stay, background tasks."""
