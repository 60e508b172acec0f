"""Verifies a ticket with two COSE libraries that none of us wrote: PyPI `cwt` and `pycose`.

    verify_ticket.py TICKET --broker-key COSE_KEY [--any-time]

Prints the claims as one line of JSON: registered claims by name, private ones by number, bytes in
hexadecimal. Exits 1, with one line on stderr, when either library refuses, or when `kid` is not
the RFC 9679 thumbprint of the key, or when the headers are not those of TKT-2.
"""

import argparse
import hashlib
import io
import json
import sys
from pathlib import Path

import cbor2
import cwt
from pycose.keys import OKPKey
from pycose.keys.curves import Ed25519
from pycose.messages import CoseMessage, Sign1Message

KTY, CRV, X = 1, -1, -2
ALG, KID, TYP = 1, 4, 16
OKP, ED25519, EDDSA = 1, 6, -8
NAMES = {1: "iss", 2: "sub", 3: "aud", 4: "exp", 5: "nbf", 6: "iat", 7: "cti", 8: "cnf"}
TYPES = ("postern-node-ticket", "postern-dataset-ticket")


class Refused(Exception):
    """The ticket, or the key, is not what it should be."""


def one_item(data: bytes, what: str) -> object:
    """The one CBOR item that the bytes are: these libraries let trailing bytes pass."""
    stream = io.BytesIO(data)
    item = cbor2.CBORDecoder(stream).decode()
    if stream.read(1):
        raise Refused(f"{what}: bytes after the item")
    return item


def key_bytes(data: bytes) -> bytes:
    key = one_item(data, "broker key")
    if not isinstance(key, dict) or (key.get(KTY), key.get(CRV)) != (OKP, ED25519):
        raise Refused("broker key: no Ed25519 COSE_Key")
    if not isinstance(key.get(X), bytes) or len(key[X]) != 32:
        raise Refused("broker key: no public key of 32 bytes")
    return key[X]


def thumbprint(x: bytes) -> bytes:
    """RFC 9679, section 3: SHA-256 of the required members alone, deterministically encoded."""
    return hashlib.sha256(cbor2.dumps({KTY: OKP, CRV: ED25519, X: x}, canonical=True)).digest()


def by_cwt(ticket: bytes, x: bytes, any_time: bool) -> dict:
    key = cwt.COSEKey.new({KTY: OKP, CRV: ED25519, X: x, 2: thumbprint(x), 3: EDDSA})
    # `no_verify` skips only its check of exp, nbf and the like; the signature is always checked.
    return cwt.decode(ticket, key, no_verify=any_time)


def by_pycose(ticket: bytes, x: bytes) -> dict:
    message = CoseMessage.decode(ticket)
    if not isinstance(message, Sign1Message):
        raise Refused("pycose: no COSE_Sign1")
    message.key = OKPKey(crv=Ed25519, x=x)
    if not message.verify_signature():
        raise Refused("pycose: bad signature")
    return one_item(message.payload, "claims")


def check_headers(ticket: bytes, x: bytes) -> None:
    item = one_item(ticket, "ticket")
    if not isinstance(item, cbor2.CBORTag) or item.tag != 18 or len(item.value) != 4:
        raise Refused("ticket: no tagged COSE_Sign1")
    protected = one_item(item.value[0], "protected header")
    if item.value[1] != {} or set(protected) != {ALG, KID, TYP}:
        raise Refused("ticket: other headers than alg, kid, typ, all protected")
    if protected[ALG] != EDDSA:
        raise Refused("ticket: alg is not EdDSA")
    if protected[TYP] not in TYPES:
        raise Refused(f"ticket: unknown typ {protected[TYP]!r}")
    if protected[KID] != thumbprint(x):
        raise Refused("ticket: kid is not the thumbprint of the broker key")


def shown(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): shown(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(member) for member in value]
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("ticket", type=Path)
    parser.add_argument("--broker-key", type=Path, required=True)
    parser.add_argument("--any-time", action="store_true", help="accept an expired ticket")
    arguments = parser.parse_args()
    try:
        ticket = arguments.ticket.read_bytes()
        x = key_bytes(arguments.broker_key.read_bytes())
        check_headers(ticket, x)
        claims = by_cwt(ticket, x, arguments.any_time)
        if by_pycose(ticket, x) != claims:
            raise Refused("cwt and pycose read different claims")
    except OSError as error:
        print(f"verify_ticket: {error}", file=sys.stderr)
        return 2
    # The libraries raise whatever their parsers do: anything at all is a refusal.
    except Exception as error:
        print(f"verify_ticket: refused: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    named = {NAMES.get(number, str(number)): shown(value) for number, value in claims.items()}
    print(json.dumps(named, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
