"""What a process says of the dates of its own TLS certificate."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from federation.rpc.transport import Credentials
from federation.rpc.validity import OwnCertificate, Validity, leads_to
from gateway import telemetry as gateway_telemetry
from loadtest.authorities.tls import Authority
from node_agent import telemetry as node_telemetry

NOW = datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("begins", "ends", "fault"),
    [
        (-DAY * 365, DAY * 15, None),
        (-DAY * 365, DAY * 13, "expires_soon"),
        (-DAY * 365, -DAY, "expired"),
        (DAY, DAY * 365, "not_yet_valid"),
        (-DAY * 0.5, DAY * 0.5, None),  # one of a day, renewed daily, is not always nearly over
        (-DAY * 0.9, DAY * 0.1, "expires_soon"),
    ],
)
def test_the_dates_are_judged_in_proportion_to_the_certificates_life(begins, ends, fault):
    assert Validity(NOW + begins, NOW + ends).fault(NOW) == fault


def test_a_chain_is_as_valid_as_the_shortest_of_it(tmp_path):
    authority = Authority(tmp_path)
    long = authority.issue("node", "330483", lifetime=DAY * 20).certificate.read_bytes()
    short = authority.issue("node", "330400", lifetime=DAY * 2).certificate.read_bytes()
    assert Validity.of(long + short).ends == Validity.of(short).ends


class Told:
    def __init__(self):
        self.faults, self.ends = [], []

    def certificate_expires(self, at):
        self.ends.append(at)

    def certificate_fault(self, fault):
        self.faults.append(fault)


def test_a_fault_is_told_once_and_again_after_it_was_mended(tmp_path):
    authority = Authority(tmp_path)
    issued = authority.issue("node", "330483", lifetime=DAY, starts=datetime.now(UTC) - 3 * DAY)
    expired, old_key = issued.certificate.read_bytes(), issued.key.read_bytes()
    good = authority.issue("node", "330483").certificate.read_bytes()
    new_key = issued.key.read_bytes()
    told = Told()
    own = OwnCertificate(Credentials(ca=issued.ca, certificate=issued.certificate, key=issued.key), told)
    for content, key in (
        (expired, old_key),
        (good, new_key),
        (b"no PEM", new_key),
        (with_sm2_key(good), new_key),
        (expired, old_key),
    ):
        issued.certificate.write_bytes(content)
        issued.key.write_bytes(key)
        for _ in range(3):
            own.look(datetime.now(UTC))
    assert told.faults == ["expired", "unreadable", "expired"]
    assert told.ends == [Validity.of(one).ends for one in (expired, good, expired) for _ in range(3)]


def test_a_certificate_that_no_authority_of_the_federation_issued_is_told(tmp_path):
    issued = Authority(tmp_path / "one").issue("node", "330483")
    other = Authority(tmp_path / "other").issue("node", "330400")
    told = Told()
    for ca in (other.ca, issued.ca):
        OwnCertificate(Credentials(ca=ca, certificate=issued.certificate, key=issued.key), told).look(
            datetime.now(UTC)
        )
    assert told.faults == ["unknown_issuer"]


def test_a_chain_leads_to_an_authority_through_those_between(tmp_path):
    def issue(subject, issuer, key, signed_by):
        names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one)]) for one in (subject, issuer)]
        return (
            x509.CertificateBuilder(names[1], names[0], key.public_key(), 1, NOW, NOW + DAY)
            .sign(signed_by, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )

    root, between, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    top = issue("root", "root", root, root)
    middle = issue("between", "root", between, root)
    leaf = issue("own", "between", own, between)
    assert leads_to(leaf + middle, top)
    assert leads_to(leaf + top + middle, top)  # in any order
    assert leads_to(leaf, middle)
    assert not leads_to(leaf, top)
    assert not leads_to(leaf + issue("between", "root", between, own), top)  # the name alone is no signature
    of_sm = with_sm2_key(top)  # an authority with a root for each suite, both of one name
    assert leads_to(leaf + middle, of_sm + top)
    assert not leads_to(leaf + middle, of_sm)


def with_sm2_key(certificate):
    """The same, its key on the curve of SM2, which nothing here can make use of."""
    p256, sm2 = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a811ccf5501822d")
    der = x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    assert p256 in der
    return x509.load_der_x509_certificate(der.replace(p256, sm2)).public_bytes(Encoding.PEM)


def test_on_plaintext_there_is_nothing_to_tell():
    told = Told()
    OwnCertificate(Credentials(plaintext_on_loopback=True), told).look(NOW)
    assert not told.faults + told.ends


@pytest.mark.parametrize(
    ("telemetry", "observer", "gauge"),
    [
        (gateway_telemetry, gateway_telemetry.Observer([]), "gw_certificate_expires_at_seconds"),
        (node_telemetry, node_telemetry.ValidityObserver(), "agent_certificate_expires_at_seconds"),
    ],
    ids=["gateway", "agent"],
)
def test_the_gauge_holds_unix_time(telemetry, observer, gauge):
    observer.certificate_expires(NOW)
    assert telemetry.REGISTRY.get_sample_value(gauge) == NOW.timestamp()


@pytest.mark.parametrize("module", ["gateway.__main__", "node_agent.__main__"])
def test_an_entry_point_keeps_grpcs_own_lines_out_of_the_log_unless_told_otherwise(module):
    load = f"""
import os, sys
from importlib.abc import MetaPathFinder

class Look(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "grpc":
            print(os.environ.get("GRPC_VERBOSITY"))

sys.meta_path.insert(0, Look())
import {module}, federation.rpc.transport
"""
    for given, used in (({}, "NONE"), ({"GRPC_VERBOSITY": "INFO"}, "INFO")):
        environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"} | given
        done = subprocess.run(
            [sys.executable, "-c", load],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.strip() == used
