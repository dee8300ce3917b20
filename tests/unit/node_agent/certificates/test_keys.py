"""The keys an archive makes, and what it asks the seal's authority for."""

import errno
from pathlib import Path

import pytest
from cryptography import x509

from node_agent.certificates import keys


def test_the_request_for_the_seals_certificate_asks_for_the_usages_a_seal_needs(tmp_path):
    keys.create(tmp_path, "330483", "lantai")
    request = x509.load_pem_x509_csr((tmp_path / keys.FOLDER / "seal.csr").read_bytes())
    assert request.is_signature_valid
    usage = request.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert usage.content_commitment
    extended = request.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [one.dotted_string for one in extended] == ["1.3.6.1.5.5.7.3.36"]


def test_a_key_of_another_user_is_not_called_missing(tmp_path, monkeypatch):
    keys.create(tmp_path, "330483", "lantai")

    def read(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(keys.KeysMissingError, match=r"can not be read: .*credential\.pem: Permission denied"):
        keys.load(tmp_path)
