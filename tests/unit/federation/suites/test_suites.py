"""Both suites against published examples and against implementations that are not ours."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from federation.suites import ALGORITHMS
from federation.suites.base import PrivateKey, PublicKey
from federation.suites.encoding import b64u, thumbprint, unb64u
from federation.suites.libcrypto import DISTINGUISHING_ID
from federation.suites.registry import suite
from federation.verify.report import VerifyError

VECTORS = json.loads(Path("tests/vectors/credentials.json").read_text())
INTL, SM = suite("intl-1"), suite("sm-1")
MESSAGE = "與原件核對無異".encode()


def sm2_public() -> PublicKey:
    x, y = (b64u(bytes.fromhex(VECTORS["sm2"][name])) for name in "xy")
    return SM.public_key({"kty": "EC", "crv": "SM2", "x": x, "y": y}, "SM2")


def reason(call) -> str:
    with pytest.raises(VerifyError) as caught:
        call()
    return caught.value.reason.value


def der(raw: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


@pytest.mark.parametrize(
    ("name", "alg"), [(name, alg) for name in ALGORITHMS for alg in sorted(ALGORITHMS[name])]
)
def test_keys_sign_travel_and_verify(name: str, alg: str) -> None:
    chosen = suite(name)
    key = chosen.generate(alg)
    again = chosen.load(chosen.dump(key), alg)
    public = chosen.public_key(chosen.jwk(again.public), alg)
    signature = chosen.sign(again, MESSAGE)
    assert len(signature) == 64
    chosen.verify(public, MESSAGE, signature)
    for message, wrong in (
        (MESSAGE + b" ", signature),
        (MESSAGE, signature[:-1] + bytes([signature[-1] ^ 1])),
        (MESSAGE, signature[:-1]),
        (MESSAGE, bytes(64)),
        (MESSAGE, b"\xff" * 64),
        (MESSAGE, b""),
    ):
        assert reason(lambda message=message, wrong=wrong: chosen.verify(public, message, wrong)) == "altered"
    assert thumbprint(chosen.jwk(public)) == thumbprint(chosen.jwk(key.public))


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_sealed_text_opens_for_its_recipient_and_context_only(name: str) -> None:
    chosen = suite(name)
    key, other = chosen.generate(chosen.sealing), chosen.generate(chosen.sealing)
    sealed = chosen.seal(key.public, MESSAGE, b"request 1")
    assert MESSAGE not in sealed
    assert sealed != chosen.seal(key.public, MESSAGE, b"request 1")
    assert chosen.open(key, sealed, b"request 1") == MESSAGE
    assert reason(lambda: chosen.open(other, sealed, b"request 1")) == "cannot_open"
    assert reason(lambda: chosen.open(key, sealed, b"request 2")) == "cannot_open"
    for at in range(0, len(sealed), 7):
        wrong = bytearray(sealed)
        wrong[at] ^= 0x10
        assert reason(lambda wrong=wrong: chosen.open(key, bytes(wrong), b"request 1")) == "cannot_open"
    for length in (0, 1, 2, 31, 32, 40, len(sealed) - 1):
        assert reason(lambda length=length: chosen.open(key, sealed[:length], b"request 1")) == "cannot_open"


def test_a_key_of_one_suite_is_refused_by_the_other() -> None:
    intl, sm = INTL.generate("ES256"), SM.generate("SM2")
    assert reason(lambda: SM.public_key(INTL.jwk(intl.public), "SM2")) == "wrong_suite"
    assert reason(lambda: INTL.public_key(SM.jwk(sm.public), "ES256")) == "wrong_suite"
    assert reason(lambda: INTL.verify(sm.public, MESSAGE, SM.sign(sm, MESSAGE))) == "wrong_suite"
    assert reason(lambda: SM.verify(intl.public, MESSAGE, INTL.sign(intl, MESSAGE))) == "wrong_suite"
    assert reason(lambda: SM.sign(intl, MESSAGE)) == "wrong_suite"
    assert reason(lambda: INTL.seal(SM.generate(SM.sealing).public, MESSAGE, b"")) == "wrong_suite"
    assert reason(lambda: SM.load(INTL.dump(intl), "SM2")) == "wrong_suite"
    assert reason(lambda: INTL.load(SM.dump(sm), "ES256")) == "wrong_suite"
    # and inside a suite, a key of one algorithm by another
    assert reason(lambda: INTL.public_key(INTL.jwk(intl.public), "Ed25519")) == "wrong_suite"
    assert reason(lambda: INTL.seal(intl.public, MESSAGE, b"")) == "wrong_algorithm"
    assert reason(lambda: suite("rot-13")) == "unsupported_suite"


def test_a_key_that_may_not_sign_is_refused() -> None:
    jwk = INTL.jwk(INTL.generate("ES256").public)
    assert INTL.public_key(jwk | {"use": "sig", "alg": "ES256", "kid": "a"}, "ES256")
    for wrong in ({"use": "enc"}, {"key_ops": ["deriveKey"]}, {"key_ops": "verify"}):
        assert reason(lambda wrong=wrong: INTL.public_key(jwk | wrong, "ES256")) == "wrong_usage"
    assert reason(lambda: INTL.public_key(jwk | {"alg": "RS256"}, "ES256")) == "wrong_algorithm"


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "EC", "crv": "P-256", "x": b64u(bytes(31) + b"\x05"), "y": b64u(bytes(31) + b"\x01")},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "x": 1, "y": None},
        {"kty": "EC", "crv": "P-256", "x": "====", "y": "????"},
        {"kty": "EC", "crv": "SM2", "x": b64u(bytes(31) + b"\x05"), "y": b64u(bytes(31) + b"\x01")},
        {"kty": "EC", "crv": "SM2", "x": "AA", "y": "AA"},
    ],
)
def test_a_point_off_the_curve_is_malformed(jwk: dict[str, str]) -> None:
    chosen, alg = (SM, "SM2") if jwk["crv"] == "SM2" else (INTL, "ES256")
    assert reason(lambda: chosen.public_key(jwk, alg)) == "malformed"


def test_a_point_to_which_nothing_can_be_sealed_is_no_key() -> None:
    """RFC 7748, 6.1: points of small order give the same secret, zero, with every key."""
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "ec" + "ff" * 30 + "7f",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    ):
        jwk = {"kty": "OKP", "crv": "X25519", "x": b64u(bytes.fromhex(point))}
        assert reason(lambda jwk=jwk: INTL.public_key(jwk, INTL.sealing)) == "malformed"


def test_a_private_key_does_not_show_itself() -> None:
    key = SM.generate("SM2")
    assert "native" not in repr(key)
    assert isinstance(key, PrivateKey)


def test_base64url_has_one_form() -> None:
    assert unb64u("Zm8") == b"fo"
    assert (
        reason(lambda: unb64u("Zm9")) == "not_canonical"
    )  # unused bits set: would decode to the same two bytes
    for text in ("Zm8=", "Zm+8", "Zm 8", "Z", "\u0661\u0661"):
        assert reason(lambda text=text: unb64u(text)) == "malformed"


def test_thumbprint_of_rfc_8037() -> None:
    assert thumbprint(VECTORS["thumbprint"]["jwk"]) == VECTORS["thumbprint"]["value"]


# --- published examples of the national algorithms ---


def test_sm3_examples_of_gbt_32905() -> None:
    for message, digest in VECTORS["sm3"]:
        assert SM.digest(bytes.fromhex(message)).hex() == digest


def test_sm4_example_of_gbt_32907() -> None:
    key, plain, cipher = (bytes.fromhex(VECTORS["sm4"][name]) for name in ("key", "plain", "cipher"))
    encryptor = Cipher(algorithms.SM4(key), modes.ECB()).encryptor()
    assert encryptor.update(plain) + encryptor.finalize() == cipher


def test_sm2_signature_of_gbt_32918_5() -> None:
    vector = VECTORS["sm2"]
    SM.verify(sm2_public(), vector["message"].encode(), bytes.fromhex(vector["signature"]))
    assert (
        reason(lambda: SM.verify(sm2_public(), b"message digesT", bytes.fromhex(vector["signature"])))
        == "altered"
    )


# --- implementations that are not ours ---


def test_sm2_agrees_with_gmssl_both_ways() -> None:
    gmssl = pytest.importorskip("gmssl_pyx")
    public, secret = gmssl.sm2_key_generate()
    ours = SM.public_key(
        {"kty": "EC", "crv": "SM2", "x": b64u(public[-64:-32]), "y": b64u(public[-32:])}, "SM2"
    )
    theirs = gmssl.sm2_sign(secret, public, MESSAGE, signer_id=DISTINGUISHING_ID)
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    r, s = decode_dss_signature(theirs)
    SM.verify(ours, MESSAGE, r.to_bytes(32, "big") + s.to_bytes(32, "big"))
    key = SM.generate("SM2")
    point = key.native.point()
    assert gmssl.sm2_verify(point[1:], MESSAGE, der(SM.sign(key, MESSAGE)), signer_id=DISTINGUISHING_ID)


def test_sm2_encryption_agrees_with_gmssl_both_ways() -> None:
    gmssl = pytest.importorskip("gmssl_pyx")
    public, secret = gmssl.sm2_key_generate()
    ours = SM.public_key(
        {"kty": "EC", "crv": "SM2", "x": b64u(public[-64:-32]), "y": b64u(public[-32:])}, SM.sealing
    )
    assert gmssl.sm2_decrypt(secret, ours.native.encrypt(b"sixteen bytes!!!")) == b"sixteen bytes!!!"
    key = SM.generate(SM.sealing)
    carrier = gmssl.sm2_encrypt(key.native.point()[1:], b"sixteen bytes!!!")
    assert key.native.decrypt(carrier) == b"sixteen bytes!!!"


def openssl(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["openssl", *arguments], capture_output=True, check=False)


def test_sm2_agrees_with_the_openssl_command_both_ways(tmp_path: Path) -> None:
    if b"SM2" not in openssl("list", "-public-key-algorithms").stdout:
        pytest.skip("no openssl command with SM2")
    key = SM.generate("SM2")
    (tmp_path / "key.pem").write_bytes(SM.dump(key))
    (tmp_path / "message").write_bytes(MESSAGE)
    identity = f"distid:{DISTINGUISHING_ID.decode()}"
    made = openssl(
        "pkeyutl", "-sign", "-inkey", str(tmp_path / "key.pem"), "-in", str(tmp_path / "message"), "-rawin",
        "-digest", "sm3", "-pkeyopt", identity,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    r, s = decode_dss_signature(made.stdout)
    SM.verify(key.public, MESSAGE, r.to_bytes(32, "big") + s.to_bytes(32, "big"))
    (tmp_path / "signature").write_bytes(der(SM.sign(key, MESSAGE)))
    checked = openssl(
        "pkeyutl", "-verify", "-inkey", str(tmp_path / "key.pem"), "-in", str(tmp_path / "message"), "-rawin",
        "-digest", "sm3", "-pkeyopt", identity, "-sigfile", str(tmp_path / "signature"),
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


def test_hpke_agrees_with_pyhpke_both_ways() -> None:
    pyhpke = pytest.importorskip("pyhpke")
    theirs = pyhpke.CipherSuite.new(
        pyhpke.KEMId.DHKEM_X25519_HKDF_SHA256, pyhpke.KDFId.HKDF_SHA256, pyhpke.AEADId.AES128_GCM
    )
    key = INTL.generate(INTL.sealing)
    enc, sender = theirs.create_sender_context(pyhpke.KEMKey.from_jwk(INTL.jwk(key.public)), info=b"info")
    assert INTL.open(key, enc + sender.seal(MESSAGE), b"info") == MESSAGE
    sealed = INTL.seal(key.public, MESSAGE, b"info")
    secret = INTL.jwk(key.public) | {"d": b64u(key.native.private_bytes_raw())}
    receiver = theirs.create_recipient_context(sealed[:32], pyhpke.KEMKey.from_jwk(secret), info=b"info")
    assert receiver.open(sealed[32:]) == MESSAGE


def test_the_second_hpke_passes_rfc_9180_itself() -> None:
    """`seal` has no associated data, the vectors all have: so the vectors hold pyhpke, and pyhpke holds ours above."""
    pyhpke = pytest.importorskip("pyhpke")
    vectors = pytest.importorskip("cryptography_vectors")
    cases = json.loads((Path(vectors.__file__).parent / "HPKE" / "test-vectors.json").read_text())
    ours = [
        one for one in cases if (one["mode"], one["kem_id"], one["kdf_id"], one["aead_id"]) == (0, 32, 1, 1)
    ]
    assert ours
    for case in ours:
        theirs = pyhpke.CipherSuite.new(pyhpke.KEMId(32), pyhpke.KDFId(1), pyhpke.AEADId(1))
        jwk = {"kty": "OKP", "crv": "X25519"}
        jwk |= {"x": b64u(bytes.fromhex(case["pkRm"])), "d": b64u(bytes.fromhex(case["skRm"]))}
        context = theirs.create_recipient_context(
            bytes.fromhex(case["enc"]), pyhpke.KEMKey.from_jwk(jwk), info=bytes.fromhex(case["info"])
        )
        for one in case["encryptions"][:10]:
            plain = context.open(bytes.fromhex(one["ct"]), aad=bytes.fromhex(one["aad"]))
            assert plain == bytes.fromhex(one["pt"])


def test_sm3_is_the_systems() -> None:
    assert SM.digest(MESSAGE) == hashlib.new("sm3", MESSAGE).digest()
