"""Base45 (RFC 9285): bytes as the alphanumeric characters a QR code packs best, 3 for 2 bytes."""

from __future__ import annotations

from struct import pack

from federation.verify.report import VerificationReason, VerifyError

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_VALUES = {char: value for value, char in enumerate(ALPHABET)}


def encode(data: bytes) -> str:
    text = []
    for at in range(0, len(data) - 1, 2):
        high, rest = divmod(data[at] * 256 + data[at + 1], 45 * 45)
        text += [ALPHABET[rest % 45], ALPHABET[rest // 45], ALPHABET[high]]
    if len(data) % 2:
        text += [ALPHABET[data[-1] % 45], ALPHABET[data[-1] // 45]]
    return "".join(text)


def decode(text: str) -> bytes:
    """Raises VerifyError `malformed` for other characters, impossible lengths and values past two bytes (or one)."""
    if len(text) % 3 == 1:
        raise _malformed()
    try:
        values = [_VALUES[char] for char in text]
    except KeyError as error:
        raise _malformed() from error
    whole = len(values) - len(values) % 3
    numbers = [
        low + middle * 45 + high * 2025
        for low, middle, high in zip(values[0:whole:3], values[1:whole:3], values[2:whole:3], strict=True)
    ]
    if numbers and max(numbers) > 0xFFFF:
        raise _malformed()
    data = bytearray(pack(f">{len(numbers)}H", *numbers))
    if whole < len(values):
        number = values[whole] + values[whole + 1] * 45
        if number > 0xFF:
            raise _malformed()
        data.append(number)
    return bytes(data)


def _malformed() -> VerifyError:
    return VerifyError(VerificationReason.MALFORMED, "base45")
