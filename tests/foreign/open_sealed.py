"""Opens a sealed answer with other people's cryptography.

    open_sealed.py FILE       one JSON object, bytes in hexadecimal:
      kem                "x25519" or "x-wing"
      sk                 the recipient's private key: 32 bytes (for X-Wing, its seed)
      enc, info          the encapsulation, and HPKE's info
      exporter_context, length, expected_export
                         what to export, and what must come out
      answer_aad, answer_ct, expected_plaintext
                         optional: ChaCha20-Poly1305 under the export, nonce zero (SEAL-4)
    open_sealed.py --self-test

The suite is HPKE base mode with HKDF-SHA256 and ChaCha20-Poly1305. X25519 is PyPI `pyhpke`, all of it.
For X-Wing no library in reach exports: PyPI `cryptography` has the KEM but only whole messages. So there
the shared secret is made of `cryptography`'s ML-KEM-768 and X25519 (draft-connolly-cfrg-xwing-kem),
the key schedule of `pyhpke`'s labeled HKDF, and --self-test holds the two of them, put together,
against messages that `cryptography`'s own X-Wing sealed.

Exits 1, with one line on stderr, when anything differs.
"""

import hashlib
import json
import struct
import sys
from pathlib import Path

from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey
from pyhpke.kdf import KDF

X_WING, HKDF_SHA256, CHACHA20_POLY1305 = 0x647A, 0x0001, 0x0003
MLKEM_CIPHERTEXT = 1088
NONCE = bytes(12)


class Differs(Exception):
    """What came out is not what was expected."""


def raw(key: X25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


class XWing:
    """X-Wing decapsulation and the HPKE key schedule upon it."""

    def __init__(self, seed: bytes):
        if len(seed) != 32:
            raise Differs("an X-Wing private key is a seed of 32 bytes")
        expanded = hashlib.shake_256(seed).digest(96)
        self.mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        self.x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])

    def shared_secret(self, enc: bytes) -> bytes:
        if len(enc) != MLKEM_CIPHERTEXT + 32:
            raise Differs("an X-Wing encapsulation is 1120 bytes")
        mlkem_ct, x25519_ct = enc[:MLKEM_CIPHERTEXT], enc[MLKEM_CIPHERTEXT:]
        return hashlib.sha3_256(
            self.mlkem.decapsulate(mlkem_ct)
            + self.x25519.exchange(X25519PublicKey.from_public_bytes(x25519_ct))
            + x25519_ct
            + raw(self.x25519.public_key())
            + b"\\.//^\\"
        ).digest()

    def schedule(self, enc: bytes, info: bytes) -> tuple[KDF, bytes, bytes]:
        """RFC 9180, 5.1, base mode: the KDF, the secret and the context of the schedule."""
        suite = b"HPKE" + struct.pack(">HHH", X_WING, HKDF_SHA256, CHACHA20_POLY1305)
        kdf = KDF(KDFId.HKDF_SHA256, suite)
        context = (
            b"\x00" + kdf.labeled_extract(b"", b"psk_id_hash", b"") + kdf.labeled_extract(b"", b"info_hash", info)
        )
        return kdf, kdf.labeled_extract(self.shared_secret(enc), b"secret", b""), context

    def export(self, enc: bytes, info: bytes, exporter_context: bytes, length: int) -> bytes:
        kdf, secret, context = self.schedule(enc, info)
        exporter_secret = kdf.labeled_expand(secret, b"exp", context, 32)
        return kdf.labeled_expand(exporter_secret, b"sec", exporter_context, length)

    def open(self, enc: bytes, info: bytes, ciphertext: bytes) -> bytes:
        kdf, secret, context = self.schedule(enc, info)
        key = kdf.labeled_expand(secret, b"key", context, 32)
        nonce = kdf.labeled_expand(secret, b"base_nonce", context, 12)
        return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, b"")


def export_x25519(sk: bytes, enc: bytes, info: bytes, exporter_context: bytes, length: int) -> bytes:
    suite = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.CHACHA20_POLY1305)
    key = KEMKey.from_pyca_cryptography_key(X25519PrivateKey.from_private_bytes(sk))
    return suite.create_recipient_context(enc, key, info=info).export(exporter_context, length)


def check(case: dict) -> None:
    def part(name: str) -> bytes:
        return bytes.fromhex(case[name])

    asked = part("enc"), part("info"), part("exporter_context"), int(case["length"])
    if case["kem"] == "x25519":
        exported = export_x25519(part("sk"), *asked)
    elif case["kem"] == "x-wing":
        exported = XWing(part("sk")).export(*asked)
    else:
        raise Differs(f"unknown kem {case['kem']!r}")
    if exported != part("expected_export"):
        raise Differs("the export differs")
    if "answer_ct" in case:
        plaintext = ChaCha20Poly1305(exported).decrypt(NONCE, part("answer_ct"), part("answer_aad"))
        if plaintext != part("expected_plaintext"):
            raise Differs("the plaintext differs")


def self_test() -> None:
    """Our X-Wing put-together opens what `cryptography`'s X-Wing sealed, and pyhpke's two ends agree."""
    suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
    ours = XWing(bytes(range(32)))
    public = hpke.MLKEM768X25519PublicKey(ours.mlkem.public_key(), ours.x25519.public_key())
    for number in range(8):
        info, text = b"info %d" % number, b"text %d" % number
        sealed = suite.encrypt(text, public, info)
        if ours.open(sealed[:1120], info, sealed[1120:]) != text:
            raise Differs("cryptography's X-Wing message does not open")

    sk = X25519PrivateKey.generate()
    sender_suite = CipherSuite.new(
        KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.CHACHA20_POLY1305
    )
    public_key = KEMKey.from_pyca_cryptography_key(sk.public_key())
    enc, sender = sender_suite.create_sender_context(public_key, info=b"info")
    case = {
        "kem": "x25519",
        "sk": sk.private_bytes_raw().hex(),
        "enc": enc.hex(),
        "info": b"info".hex(),
        "exporter_context": b"answer".hex(),
        "length": 32,
        "expected_export": sender.export(b"answer", 32).hex(),
        "answer_aad": b"clear".hex(),
        "answer_ct": ChaCha20Poly1305(sender.export(b"answer", 32)).encrypt(NONCE, b"dek", b"clear").hex(),
        "expected_plaintext": b"dek".hex(),
    }
    check(case)
    for name in ("info", "exporter_context", "answer_aad", "answer_ct"):
        try:
            check({**case, name: "00" + case[name][2:]})
        except Exception:
            continue
        raise Differs(f"a changed {name} went unnoticed")


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        if sys.argv[1] == "--self-test":
            self_test()
        else:
            check(json.loads(Path(sys.argv[1]).read_text()))
    except OSError as error:
        print(f"open_sealed: {error}", file=sys.stderr)
        return 2
    # The libraries raise many things for one fact: it does not open.
    except Exception as error:
        print(f"open_sealed: does not open: {type(error).__name__} {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
