"""Opens an object body with the Cobblestone-256 of PyPI `cryptography`, or makes one.

    cobblestone.py KEYHEX CONTEXTHEX < ciphertext > plaintext
    cobblestone.py --encrypt KEYHEX CONTEXTHEX < plaintext > ciphertext

Exits 1 when the body does not open; what came out before is then not to be used.
"""

import argparse
import sys

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--encrypt", action="store_true")
    parser.add_argument("key", type=bytes.fromhex)
    parser.add_argument("context", type=bytes.fromhex)
    arguments = parser.parse_args()
    made = Cobblestone256Encryptor if arguments.encrypt else Cobblestone256Decryptor
    machine = made(arguments.key, arguments.context)
    try:
        # An uneven size, so that our calls do not fall on the format's own boundaries.
        while piece := sys.stdin.buffer.read(100_003):
            sys.stdout.buffer.write(machine.update(piece))
        sys.stdout.buffer.write(machine.finalize())
    except (InvalidTag, ValueError) as error:
        print(f"cobblestone: does not open: {type(error).__name__} {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
