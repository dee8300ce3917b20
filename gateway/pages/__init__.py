"""Pages for people, rendered here and whole without scripts: checking a certificate that somebody holds in their hands."""
