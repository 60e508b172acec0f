"""Opens an object body with the Cobblestone-256 of PyPI `cryptography`, or makes one.

    cobblestone.py KEYHEX CONTEXTHEX < ciphertext > plaintext
    cobblestone.py --encrypt KEYHEX CONTEXTHEX < plaintext > ciphertext
    cobblestone.py --vectors FILE...      spec/vectors/object: opens what is to open, refuses the rest

Exits 1 when the body does not open; what came out before is then not to be used.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

# What `cryptography` raises for a body that is not authentic, or not whole.
REFUSED = (InvalidTag, ValueError)
# An uneven size, so that our calls do not fall on the format's own boundaries.
PIECE = 100_003


def pieces() -> Iterator[bytes]:
    while piece := sys.stdin.buffer.read(PIECE):
        yield piece


def opened(vector: dict) -> bytes | None:
    """The plaintext, or None where `cryptography` refuses the body."""
    machine = Cobblestone256Decryptor(bytes.fromhex(vector["key"]), bytes.fromhex(vector["context"]))
    try:
        return machine.update(bytes.fromhex(vector["body"])) + machine.finalize()
    except REFUSED:
        return None


def check_vectors(files: list[str]) -> int:
    checked = failed = 0
    for file in files:
        vector = json.loads(Path(file).read_text())
        if "body" not in vector:  # large ones are there by hash only
            continue
        wanted = None
        if "expect" not in vector:
            wanted = bytes(index % 251 for index in range(vector["plaintext_len"]))
        checked += 1
        if opened(vector) != wanted:
            print(f"{file}: {'opened' if wanted is None else 'does not open'}", file=sys.stderr)
            failed += 1
    print(f"{checked} object vectors checked")
    return 1 if failed or not checked else 0


def main() -> int:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--vectors"]:
        return check_vectors(arguments[1:])
    kind = Cobblestone256Decryptor
    if arguments[:1] == ["--encrypt"]:
        kind, arguments = Cobblestone256Encryptor, arguments[1:]
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    key, context = map(bytes.fromhex, arguments)
    machine = kind(key, context)
    try:
        for piece in pieces():
            sys.stdout.buffer.write(machine.update(piece))
        sys.stdout.buffer.write(machine.finalize())
    except REFUSED as error:
        print(f"cobblestone: does not open: {type(error).__name__} {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
