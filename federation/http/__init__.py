"""HTTP as all our servers speak it: listening within bounds, bodies, how often one may ask, problems (RFC 9457), and one bounded POST."""
