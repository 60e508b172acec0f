"""Validates CBOR files against one rule of a CDDL file, with PyPI `pycddl`.

    check_cddl.py CDDL RULE FILE...
"""

import sys
from pathlib import Path

import pycddl


def main() -> int:
    if len(sys.argv) < 4:
        print(__doc__, file=sys.stderr)
        return 2
    cddl, rule, *files = sys.argv[1:]
    # In CDDL the first rule is the one that a document is checked against.
    text = f"checked-item = {rule}\n" + Path(cddl).read_text(encoding="utf-8")
    try:
        schema = pycddl.Schema(text)
    except ValueError as error:
        print(f"{cddl}: rule {rule}: {error}", file=sys.stderr)
        return 2
    failed = 0
    for file in files:
        try:
            schema.validate_cbor(Path(file).read_bytes())
        except (pycddl.ValidationError, ValueError) as error:
            print(f"{file}: is no {rule}: {error}", file=sys.stderr)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
