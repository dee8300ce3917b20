"""What a process is told before it listens or dials with certificates or at an address that can not do."""

import socket
from datetime import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from federation.rpc import transport
from federation.rpc.naming import missing_names
from loadtest.authorities.tls import Authority

PLAIN = transport.Credentials(plaintext_on_loopback=True)


@pytest.fixture
def issued(tmp_path):
    authority = Authority(tmp_path)
    one, other = authority.issue("gateway", "gateway"), authority.issue("node", "330483")
    return {"ca": one.ca, "certificate": one.certificate, "key": one.key, "other": other.key}


def told(**files):
    with pytest.raises(transport.TransportRefusedError) as refused:
        transport.check(transport.Credentials(**files), [], "gateway", listens=True)
    return str(refused.value)


@pytest.mark.parametrize("setting", ["ca", "certificate", "key"])
def test_a_file_that_can_not_be_used_is_named_with_its_setting(issued, tmp_path, setting):
    del issued["other"]
    absent = tmp_path / "absent.pem"
    assert told(**{**issued, setting: absent}).startswith(f"{setting}: 无法读取 · can not read {absent}")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n")
    text = told(**{**issued, setting: garbage})
    assert text.startswith(f"{setting}: 不是 PEM")
    assert text.endswith(f"PEM {'private key' if setting == 'key' else 'certificate'}: {garbage}")
    assert f"set {setting}," in told(**{**issued, setting: None})


def test_a_key_that_is_not_the_certificates_is_refused_with_both_files(issued):
    text = told(ca=issued["ca"], certificate=issued["certificate"], key=issued["other"])
    assert "key: 私钥与证书不成一对 · the key is not the certificate's" in text
    assert str(issued["other"]) in text
    assert str(issued["certificate"]) in text


@pytest.mark.parametrize(
    ("role", "name", "lacks"),
    [
        ("gateway", "", ""),
        ("gateway", "gateway", ""),
        ("gateway", "second", "URI:spiffe://lantai/gateway/second, DNS:second.gateway.lantai"),
        ("node", "330483", "URI:spiffe://lantai/node/330483, DNS:330483.node.lantai"),
        ("node", "", "URI:spiffe://lantai/node/NAME, DNS:NAME.node.lantai"),
    ],
)
def test_a_certificate_of_somebody_else_is_refused_with_the_names_it_should_bear(issued, role, name, lacks):
    del issued["other"]
    credentials = transport.Credentials(**issued)
    if not lacks:
        transport.check(credentials, [], role, name, listens=True)
        return
    with pytest.raises(transport.TransportRefusedError) as refused:
        transport.check(credentials, [], role, name, listens=True)
    assert f"the name it is known by: {lacks} (subjectAltName)" in str(refused.value)
    assert str(refused.value).endswith(str(issued["certificate"]))


@pytest.mark.parametrize(
    ("hosts", "fits"),
    [([], False), (["330483.node.other"], False), (["330483.NODE.lantai"], True), (["*.node.lantai"], True)],
)
def test_a_dns_name_is_wanted_of_whoever_is_dialled(tmp_path, hosts, fits):
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "330483")])
    names = [x509.UniformResourceIdentifier("spiffe://lantai/node/330483"), *map(x509.DNSName, hosts)]
    certificate = (
        x509.CertificateBuilder(named, named, key.public_key(), 1, datetime(2026, 1, 1), datetime(2027, 1, 1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    assert missing_names(certificate, "lantai", "node", "330483", listens=False) == ()
    lacks = () if fits else ("DNS:330483.node.lantai",)
    assert missing_names(certificate, "lantai", "node", "330483", listens=True) == lacks


def test_names_that_can_not_be_read_are_missing():
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "330483")])
    odd = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, bytes.fromhex("3002a300"))  # X.400
    certificate = (
        x509.CertificateBuilder(named, named, key.public_key(), 1, datetime(2026, 1, 1), datetime(2027, 1, 1))
        .add_extension(odd, critical=False)
        .sign(key, hashes.SHA256())
    )
    lacks = ("URI:spiffe://lantai/node/330483", "DNS:330483.node.lantai")
    assert missing_names(certificate, "lantai", "node", "330483", listens=True) == lacks


def test_plaintext_to_another_machine_is_refused_with_the_setting_and_the_address():
    near = [("listen", "127.0.0.1:7000"), ("gateways", "localhost:1")]
    transport.check(PLAIN, near, "node", "330483", listens=True)
    with pytest.raises(transport.TransportRefusedError, match=r"gateways gw\.example:7000: .* loopback only"):
        transport.check(PLAIN, [*near, ("gateways", "gw.example:7000")], "node", "330483", listens=True)


async def test_a_port_in_use_is_refused_with_the_setting_and_the_address():
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(transport.TransportRefusedError) as refused:
            transport.listen(transport.server(), address, PLAIN, "link_listen")
        assert str(refused.value).startswith(f"link_listen: 无法监听 · can not listen on {address}: Address")
        with pytest.raises(transport.TransportRefusedError, match=rf"^health_listen: .* {address}"):
            transport.listen_for_probes(transport.server(), address)


async def test_an_address_of_another_machine_is_refused_by_name(issued):
    del issued["other"]
    with pytest.raises(transport.TransportRefusedError, match=r"^listen: .* 192\.0\.2\.1:7000: .*assign"):
        transport.listen(transport.server(), "192.0.2.1:7000", transport.Credentials(**issued))


async def test_two_servers_do_not_share_a_port():
    """Each would get some of the connections."""
    first, second = transport.server(), transport.server()
    port = transport.listen(first, "127.0.0.1:0", PLAIN)
    await first.start()
    try:
        with pytest.raises(transport.TransportRefusedError):
            transport.listen(second, f"127.0.0.1:{port}", PLAIN)
    finally:
        await second.stop(0)
        await first.stop(0)
