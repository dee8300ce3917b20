"""How certificates name nodes and gateways: a URI name of SPIFFE's form, and a DNS name of the same meaning for the handshake.

`spiffe://<federation>/node/<code>` and `spiffe://<federation>/gateway/<name>` are the only URI names.
"""

from __future__ import annotations

from cryptography import x509

_NO_NAMES = (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError)
"""Raised where a certificate has no alternative names, or some that can not be read."""


def dns_name(federation: str, role: str, name: str) -> str:
    """The DNS name a certificate carries beside its URI name, and the handshake checks."""
    return f"{name}.{role}.{federation}"


def uri_name(federation: str, role: str, name: str) -> str:
    """The URI name that says who a certificate is of; `role` is "node" or "gateway"."""
    return f"spiffe://{federation}/{role}/{name}"


def missing_names(
    certificate: x509.Certificate, federation: str, role: str, name: str, *, listens: bool
) -> tuple[str, ...]:
    """The names (`URI:…`, `DNS:…`) that this certificate lacks to prove to be `name` in `role`; `name` "" = of any name. Its DNS
    name is looked at only by whoever dials it.
    """
    try:
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except _NO_NAMES:
        uris, hosts = [], []
    else:
        uris = held.get_values_for_type(x509.UniformResourceIdentifier)
        hosts = held.get_values_for_type(x509.DNSName)
    start, end = uri_name(federation, role, ""), dns_name(federation, role, "")
    names = [name] if name else [one.removeprefix(start) for one in uris if one.startswith(start)]
    known = [one for one in names if uri_name(federation, role, one) in uris]
    shown = name or "NAME"
    if not known:
        return f"URI:{start}{shown}", f"DNS:{shown}{end}"
    if listens and not any(_fits(host, dns_name(federation, role, one)) for host in hosts for one in known):
        return (f"DNS:{known[0]}{end}",)
    return ()


def _fits(host: str, wanted: str) -> bool:
    """Whether a DNS name in a certificate is the one wanted, as gRPC compares: letters of either size, `*` the first label."""
    host, wanted = host.lower(), wanted.lower()
    return host == wanted or (host.startswith("*.") and wanted.partition(".")[2] == host[2:])
