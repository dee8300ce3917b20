"""The session between the gateway and a node agent: frames, correlation, timers, beats and draining.

Three layers. A link (federation/session/link.py) carries bytes and knows who dialled; a session knows frames and
sub-requests and can not see who dialled; the query logic above sees questions and replies.
"""
