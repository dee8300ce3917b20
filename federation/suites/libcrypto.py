"""SM2 of the system's libcrypto 3, by ctypes: the one maintained implementation a Debian or RHEL machine already has.

Every call goes through EVP; nothing of the curve is computed in Python. Keys are freed with their Python object.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_size_t, c_void_p
from functools import cache
from typing import Any

from federation.verify.report import VerificationReason, VerifyError

DISTINGUISHING_ID = b"1234567812345678"
"""GB/T 32918.5: hashed before the message; libraries that leave it out do not understand one another."""

_SPKI_SM2 = bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d034200")
"""SubjectPublicKeyInfo of an uncompressed point on curve 1.2.156.10197.1.301, up to the point."""

_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "EVP_PKEY_free": (None, (c_void_p,)),
    "EVP_PKEY_Q_keygen": (c_void_p, (c_void_p, c_char_p, c_char_p)),
    "EVP_PKEY_is_a": (c_int, (c_void_p, c_char_p)),
    "EVP_PKEY2PKCS8": (c_void_p, (c_void_p,)),
    "i2d_PKCS8_PRIV_KEY_INFO": (c_int, (c_void_p, POINTER(c_void_p))),
    "PKCS8_PRIV_KEY_INFO_free": (None, (c_void_p,)),
    "d2i_AutoPrivateKey": (c_void_p, (c_void_p, POINTER(c_char_p), c_long)),
    "d2i_PUBKEY": (c_void_p, (c_void_p, POINTER(c_char_p), c_long)),
    "i2d_PUBKEY": (c_int, (c_void_p, POINTER(c_void_p))),
    "CRYPTO_free": (None, (c_void_p, c_char_p, c_int)),
    "EVP_MD_CTX_new": (c_void_p, ()),
    "EVP_MD_CTX_free": (None, (c_void_p,)),
    "EVP_MD_fetch": (c_void_p, (c_void_p, c_char_p, c_char_p)),
    "EVP_DigestSignInit": (c_int, (c_void_p, POINTER(c_void_p), c_void_p, c_void_p, c_void_p)),
    "EVP_DigestSign": (c_int, (c_void_p, c_char_p, POINTER(c_size_t), c_char_p, c_size_t)),
    "EVP_DigestVerifyInit": (c_int, (c_void_p, POINTER(c_void_p), c_void_p, c_void_p, c_void_p)),
    "EVP_DigestVerify": (c_int, (c_void_p, c_char_p, c_size_t, c_char_p, c_size_t)),
    "EVP_PKEY_CTX_set1_id": (c_int, (c_void_p, c_char_p, c_size_t)),
    "EVP_PKEY_CTX_new_from_pkey": (c_void_p, (c_void_p, c_void_p, c_char_p)),
    "EVP_PKEY_CTX_free": (None, (c_void_p,)),
    "EVP_PKEY_encrypt_init": (c_int, (c_void_p,)),
    "EVP_PKEY_encrypt": (c_int, (c_void_p, c_char_p, POINTER(c_size_t), c_char_p, c_size_t)),
    "EVP_PKEY_decrypt_init": (c_int, (c_void_p,)),
    "EVP_PKEY_decrypt": (c_int, (c_void_p, c_char_p, POINTER(c_size_t), c_char_p, c_size_t)),
    "ERR_clear_error": (None, ()),
}


@cache
def _library() -> ctypes.CDLL:
    """The library with its prototypes; raises VerifyError `unsupported_suite` where there is none of version 3."""
    name = ctypes.util.find_library("crypto") or "libcrypto.so.3"
    try:
        library = ctypes.CDLL(name)
        for function, (result, arguments) in _SIGNATURES.items():
            bound = getattr(library, function)
            bound.restype, bound.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise VerifyError(VerificationReason.UNSUPPORTED_SUITE, "libcrypto 3", open=True) from error
    return library


@cache
def _sm3() -> int:
    method = _library().EVP_MD_fetch(None, b"SM3", None)
    if not method:
        raise VerifyError(VerificationReason.UNSUPPORTED_SUITE, "SM3", open=True)
    return int(method)


class Sm2Key:
    """An EVP_PKEY on the SM2 curve, private or public."""

    def __init__(self, pointer: int | None, problem: str) -> None:
        self._library = _library()
        if not pointer:
            self._library.ERR_clear_error()
            raise VerifyError(VerificationReason.MALFORMED, problem)
        self.pointer = pointer
        if self._library.EVP_PKEY_is_a(pointer, b"SM2") != 1:
            raise VerifyError(VerificationReason.WRONG_SUITE, problem)

    def __del__(self) -> None:
        pointer = getattr(self, "pointer", None)
        if pointer:
            self._library.EVP_PKEY_free(pointer)

    @classmethod
    def generate(cls) -> Sm2Key:
        return cls(_library().EVP_PKEY_Q_keygen(None, None, b"SM2"), "SM2")

    @classmethod
    def from_point(cls, point: bytes) -> Sm2Key:
        """From 0x04 ‖ x ‖ y; a point off the curve is malformed."""
        return cls(_d2i("d2i_PUBKEY", _SPKI_SM2 + point), "SM2 point")

    @classmethod
    def from_pkcs8(cls, der: bytes) -> Sm2Key:
        return cls(_d2i("d2i_AutoPrivateKey", der), "PKCS #8")

    def point(self) -> bytes:
        """The public point, 0x04 ‖ x ‖ y."""
        return self._i2d("i2d_PUBKEY", self.pointer)[-65:]

    def pkcs8(self) -> bytes:
        info = self._library.EVP_PKEY2PKCS8(self.pointer)
        try:
            return self._i2d("i2d_PKCS8_PRIV_KEY_INFO", info)
        finally:
            self._library.PKCS8_PRIV_KEY_INFO_free(info)

    def sign(self, message: bytes) -> bytes:
        """A DER signature of SM3(Z ‖ message)."""
        library, context = self._library, self._library.EVP_MD_CTX_new()
        try:
            inner = c_void_p()
            room = c_size_t(80)
            signature = ctypes.create_string_buffer(room.value)
            done = (
                library.EVP_DigestSignInit(context, byref(inner), _sm3(), None, self.pointer) == 1
                and library.EVP_PKEY_CTX_set1_id(inner, DISTINGUISHING_ID, len(DISTINGUISHING_ID)) == 1
                and library.EVP_DigestSign(context, signature, byref(room), message, len(message)) == 1
            )
        finally:
            library.EVP_MD_CTX_free(context)
        if not done:
            library.ERR_clear_error()
            raise RuntimeError("libcrypto did not sign with SM2")
        return signature.raw[: room.value]

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether this DER signature is the key's."""
        library, context = self._library, self._library.EVP_MD_CTX_new()
        try:
            inner = c_void_p()
            good: bool = (
                library.EVP_DigestVerifyInit(context, byref(inner), _sm3(), None, self.pointer) == 1
                and library.EVP_PKEY_CTX_set1_id(inner, DISTINGUISHING_ID, len(DISTINGUISHING_ID)) == 1
                and library.EVP_DigestVerify(context, signature, len(signature), message, len(message)) == 1
            )
        finally:
            library.EVP_MD_CTX_free(context)
        if not good:
            library.ERR_clear_error()
        return good

    def encrypt(self, plaintext: bytes) -> bytes:
        """SM2 public-key encryption (GB/T 32918.4), DER of C1 C3 C2."""
        return self._crypt("encrypt", plaintext)

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Raises VerifyError `cannot_open`."""
        return self._crypt("decrypt", ciphertext)

    def _crypt(self, verb: str, data: bytes) -> bytes:
        library = self._library
        context = library.EVP_PKEY_CTX_new_from_pkey(None, self.pointer, None)
        try:
            call, room = getattr(library, f"EVP_PKEY_{verb}"), c_size_t()
            if (
                getattr(library, f"EVP_PKEY_{verb}_init")(context) == 1
                and call(context, None, byref(room), data, len(data)) == 1
            ):
                result = ctypes.create_string_buffer(room.value)
                if call(context, result, byref(room), data, len(data)) == 1:
                    return result.raw[: room.value]
        finally:
            library.EVP_PKEY_CTX_free(context)
        library.ERR_clear_error()
        raise VerifyError(VerificationReason.CANNOT_OPEN)

    def _i2d(self, function: str, pointer: int) -> bytes:
        out = c_void_p()
        size = getattr(self._library, function)(pointer, byref(out))
        if size <= 0 or not out.value:
            raise RuntimeError(f"libcrypto: {function}")
        try:
            return ctypes.string_at(out.value, size)
        finally:
            self._library.CRYPTO_free(out, b"", 0)


def _d2i(function: str, der: bytes) -> int | None:
    """Decode all of `der`; bytes left over are refused."""
    start = c_char_p(der)
    before = ctypes.cast(start, c_void_p).value or 0
    pointer: int | None = getattr(_library(), function)(None, byref(start), len(der))
    if pointer and (ctypes.cast(start, c_void_p).value or 0) - before != len(der):
        _library().EVP_PKEY_free(pointer)
        return None
    return pointer
