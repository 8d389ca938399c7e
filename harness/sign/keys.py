"""Keys: a private one that signs offline, and a public key file that says until when it counts."""

import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from harness.errors import KeyFileError
from harness.host.reading import bytes_from_file
from harness.measure.measurement import Measurement

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey

PUBLIC_SUFFIX = ".pub.json"
PRIVATE_MODE = 0o600
KEY_BYTES = 64 << 10


class PublicKey(Measurement):
    """A public key file; it must reach those who verify by a way that they trust.

    Attributes:
        keyid: hex digest of the key, that a signature names.
        keytype, scheme: ``ed25519``.
        keyval: the key itself.
        owner: who signs with it.
        expires: last day on which it counts, ISO 8601.
    """

    keyid: str
    keytype: str
    scheme: str
    keyval: dict[str, str]
    owner: str
    expires: str

    @pydantic.field_validator("expires")
    @classmethod
    def _is_a_day(cls, text: str) -> str:
        datetime.date.fromisoformat(text)
        return text

    @pydantic.field_validator("owner")
    @classmethod
    def _is_one_line(cls, text: str) -> str:
        if not text.isprintable():
            raise ValueError(f"{text!r} is not a line of printable text")
        return text

    @property
    def last_day(self) -> datetime.date:
        """Last day on which the key counts."""
        return datetime.date.fromisoformat(self.expires)

    def key(self) -> "SSlibKey":
        """Return the key as what checks signatures.

        Raises:
            KeyFileError: it is not a key, or its id does not match.
        """
        from securesystemslib.signer import SSlibKey

        try:
            found = SSlibKey(self.keyid, self.keytype, self.scheme, dict(self.keyval))
            expected = SSlibKey.from_crypto(found._crypto_key()).keyid
        except Exception as error:
            raise KeyFileError(f"key {self.keyid}: it is damaged: {error}") from error
        if expected != self.keyid:
            raise KeyFileError(f"key {self.keyid}: its bytes are those of key {expected}")
        return found

    def require_valid_on(self, day: datetime.date) -> None:
        """Refuse a key that no longer counts.

        Raises:
            KeyFileError: it expired before ``day``.
        """
        if day > self.last_day:
            raise KeyFileError(
                f"key {self.keyid[:12]} of {self.owner} expired on {self.expires}, and the day is "
                f"{day}: sign with a new key (harness keygen), or verify as of the day of signing "
                "with --at"
            )


def read_public_key(path: Path) -> PublicKey:
    """Read a public key file.

    Raises:
        KeyFileError: it is missing, damaged, or not a public key file.
    """
    try:
        return PublicKey.model_validate_json(bytes_from_file(path, KEY_BYTES))
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error
    except pydantic.ValidationError as error:
        raise KeyFileError(
            f"{path} is not a public key file, such as harness keygen writes: {error}"
        ) from error


def write_key_pair(
    path: Path, owner: str, expires: datetime.date, password: bytes | None = None
) -> Path:
    """Make a key: the private one at ``path``, for its owner alone; the public one beside it.

    Returns:
        The path of the public key file.

    Raises:
        KeyFileError: either file is there already, or cannot be written, or the owner is not a line
            of printable text.
    """
    from securesystemslib.signer import CryptoSigner

    if not owner.isprintable():
        raise KeyFileError(f"the owner {owner!r} is not a line of printable text; give a name")
    signer = CryptoSigner.generate_ed25519()
    public = signer.public_key
    described = PublicKey(
        keyid=public.keyid,
        keytype=public.keytype,
        scheme=public.scheme,
        keyval=dict(public.keyval),
        owner=owner,
        expires=expires.isoformat(),
    )
    public_path = public_path_of(path)
    if public_path.exists():
        raise KeyFileError(f"{public_path} is there already; name another file")
    _write_new(path, _private_pem(signer, password), PRIVATE_MODE)
    _write_new(public_path, described.model_dump_json(indent=1).encode() + b"\n", 0o644)
    return public_path


def signer_from_file(path: Path, password: bytes | None = None) -> tuple["CryptoSigner", PublicKey]:
    """Read a private key and the public key file beside it.

    Raises:
        KeyFileError: either cannot be used, the two do not belong together, others may read the
            private one, or it needs a password.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.exceptions import KeyMismatchError
    from securesystemslib.signer import CryptoSigner

    public = read_public_key(public_path_of(path))
    content, key = _private_bytes(path), public.key()
    try:
        private: Any = load_pem_private_key(content, password)
        return CryptoSigner(private, key), public
    except TypeError as error:
        raise KeyFileError(f"{path}: {error}; see --password-file") from error
    except KeyMismatchError as error:
        raise KeyFileError(f"{path} does not belong to {public_path_of(path)}") from error
    # Beside ValueError, damage shows as an unknown algorithm or an error inside OpenSSL.
    except Exception as error:
        raise KeyFileError(f"{path} is not a private key, or the password is wrong") from error


def public_path_of(path: Path) -> Path:
    """Return where the public key file of a private key lies."""
    return path.with_name(path.name + PUBLIC_SUFFIX)


def _private_bytes(path: Path) -> bytes:
    try:
        content, mode = bytes_from_file(path, KEY_BYTES), path.stat().st_mode
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise KeyFileError(f"{path} can be read by others; run: chmod 600 {path}")
    return content


def _private_pem(signer: "CryptoSigner", password: bytes | None) -> bytes:
    if password is None:
        plain: bytes = signer.private_bytes
        return plain
    from cryptography.hazmat.primitives import serialization

    pem: bytes = signer._private_key.private_bytes(
        encoding=serialization.Encoding.PEM,
        format=serialization.PrivateFormat.PKCS8,
        encryption_algorithm=serialization.BestAvailableEncryption(password),
    )
    return pem


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise KeyFileError(f"{path} is there already; a key is never overwritten") from error
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written: {error.strerror}") from error
    with os.fdopen(handle, "wb") as file:
        file.write(content)
