"""in-toto statements in DSSE envelopes: what is signed, byte by byte, and nothing besides."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import SignatureError
from harness.host.reading import bytes_from_file, json_from_text
from harness.sign.keys import PublicKey

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

PAYLOAD_TYPE = "application/vnd.in-toto+json"


def signed_envelope(statement: Mapping[str, Any], signer: "Signer") -> bytes:
    """Return a statement in an envelope with one signature."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(_text(statement), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return _text(envelope.to_dict())


def opened_envelope(path: Path, keys: Sequence[PublicKey]) -> tuple[Mapping[str, Any], PublicKey]:
    """Return the statement in an envelope, and the key of ``keys`` that signed it.

    Raises:
        SignatureError: the file is missing or damaged, or no key signed it.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError

    content = _read(path)
    try:
        envelope = Envelope.from_dict(json_from_text(content))
        is_exact = _text(envelope.to_dict()) == content
    except Exception as error:
        raise SignatureError(f"{path} is not a DSSE envelope, or was edited: {error}") from error
    # Spare bytes are outside of the signature: there must be none.
    if not is_exact or envelope.payload_type != PAYLOAD_TYPE:
        raise SignatureError(f"{path} was edited: it is not as it was written")
    try:
        accepted = envelope.verify([key.key() for key in keys], 1)
    except VerificationError as error:
        raise SignatureError(_refusal(path, list(envelope.signatures), keys)) from error
    statement: Mapping[str, Any] = json_from_text(envelope.payload)
    return statement, next(key for key in keys if key.keyid in accepted)


def unverified_statement(path: Path) -> Mapping[str, Any]:
    """Return the statement in an envelope, whoever signed it: good to compare with, proves nothing.

    Raises:
        SignatureError: the file is missing or damaged.
    """
    try:
        payload = json.loads(_read(path))["payload"]
        statement: Mapping[str, Any] = json.loads(base64.b64decode(payload))
    except (ValueError, KeyError, TypeError) as error:
        raise SignatureError(f"{path} is not a DSSE envelope, or was edited: {error}") from error
    return statement


def _refusal(path: Path, signers: Sequence[str], keys: Sequence[PublicKey]) -> str:
    known = ", ".join(f"{key.keyid[:12]} ({key.owner})" for key in keys)
    if {key.keyid for key in keys} & set(signers):
        return f"{path}: the signature does not fit: the file was edited after key {known} signed"
    named = ", ".join(keyid[:12] for keyid in signers) or "nobody"
    return f"{path} is signed by {named}, not by the key given: {known}"


def _read(path: Path) -> bytes:
    try:
        return bytes_from_file(path)
    except OSError as error:
        raise SignatureError(
            f"{path} cannot be read: {error.strerror}; was it signed (harness sign)?"
        ) from error


def _text(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True).encode() + b"\n"
