"""The shared kernel: what the gateway and every node agent must compute alike.

Admission test for a file: would two versions of it disagree about bytes on the wire, about who a person is,
or about who may see what? If not, it belongs to one of the two processes.
"""
