"""The byte layouts of docs/spec/formats.md.

Integers are little-endian and as wide as their type, an option is a presence byte and the value, a string is a u32
length and UTF-8, and a digest begins with a tag and a NUL.
"""

from hashlib import sha256


def u8(value: int) -> bytes:
    return value.to_bytes(1, "little")


def u16(value: int) -> bytes:
    return value.to_bytes(2, "little")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


def i64(value: int) -> bytes:
    return value.to_bytes(8, "little", signed=True)


def string(value: str) -> bytes:
    raw = value.encode()
    return u32(len(raw)) + raw


def option(value: bytes | None) -> bytes:
    return u8(0) if value is None else u8(1) + value


def digest(tag: str, *parts: bytes) -> bytes:
    return sha256(tag.encode("ascii") + b"\0" + b"".join(parts)).digest()
