"""How certificates name nodes and gateways: a URI name of SPIFFE's form, and a DNS name of the same meaning for the handshake.

`spiffe://<federation>/node/<code>` and `spiffe://<federation>/gateway/<name>` are the only URI names.
"""

from __future__ import annotations


def dns_name(federation: str, role: str, name: str) -> str:
    """The DNS name a certificate carries beside its URI name, and the handshake checks."""
    return f"{name}.{role}.{federation}"


def uri_name(federation: str, role: str, name: str) -> str:
    """The URI name that says who a certificate is of; `role` is "node" or "gateway"."""
    return f"spiffe://{federation}/{role}/{name}"
