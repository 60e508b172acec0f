"""Recomputes the trees of an audit log with PyPI `pymerkle`, from the entries alone.

    verify_log.py log DIR            every shard below DIR, or the one that DIR is
    verify_log.py receipt SHARD-DIR ENTRY PROOF
                                     an entry by its c2sp.org/tlog-proof, in the shard it is of
    verify_log.py consistency SHARD-DIR OLD
                                     that the shard's first entries have an older checkpoint's root

pymerkle's trees and inclusion proofs are those of RFC 6962: the same prefixes, the same split, the same
path. Its consistency proofs are not (where the old tree ends with a whole subtree it goes on down to a
leaf), so consistency is checked by computing the old root anew; verify_log.go takes the proofs. It knows
nothing of signatures: verify_log.go and verify_log.mjs verify those. Prints one line of JSON; exits 1
with one line on stderr when something does not verify, 2 on usage.
"""

import base64
import json
import sys
from pathlib import Path

from pymerkle import InclusionProof, InmemoryTree, InvalidChallenge, InvalidProof, verify_inclusion

WIDTH = 256
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Refused(Exception):
    pass


def checkpoint(text: str) -> tuple[str, int, bytes]:
    """Shard, size and root of a note, whose signatures are not looked at."""
    body, separator, _ = text.partition("\n\n")
    lines = body.split("\n")
    if not separator or len(lines) != 3:
        raise Refused("a checkpoint has three lines and signatures")
    return lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True)


def bundle_path(number: int, entries: int) -> str:
    groups = f"{number % 1000:03}"
    while number >= 1000:
        number //= 1000
        groups = f"x{number % 1000:03}/{groups}"
    return f"tile/entries/{groups}" + ("" if entries == WIDTH else f".p/{entries}")


def entries_of(directory: Path, size: int) -> list[bytes]:
    entries = []
    for number in range((size + WIDTH - 1) // WIDTH):
        wanted = min(WIDTH, size - number * WIDTH)
        path = bundle_path(number, wanted)
        data = (directory / path).read_bytes()
        found = []
        while data:
            length = int.from_bytes(data[:2], "big")
            found.append(data[2 : 2 + length])
            if len(data) < 2 + length:
                raise Refused(f"{path} ends within an entry")
            data = data[2 + length :]
        if len(found) != wanted:
            raise Refused(f"{path} has {len(found)} entries, not {wanted}")
        entries += found
    return entries


def tree_of(directory: Path) -> tuple[str, int, bytes, InmemoryTree]:
    """A shard's checkpoint, and the tree over its entries, which must have the checkpoint's root."""
    shard, size, root = checkpoint((directory / "checkpoint").read_text(encoding="utf-8"))
    tree = InmemoryTree(algorithm="sha256")
    tree.append_entries(entries_of(directory, size))
    computed = tree.get_root(size) if size else bytes.fromhex(EMPTY)
    if computed != root:
        raise Refused(f"{directory.name}: the entries have another root")
    return shard, size, root, tree


def log(directory: Path) -> list[dict]:
    if (directory / "checkpoint").exists():
        shards = [directory]
    else:
        numbers = sorted(int(item.name) for item in directory.iterdir() if item.name.isdecimal())
        shards = [directory / str(number) for number in numbers]
    if not shards:
        raise Refused(f"{directory} has no shards")
    verified = []
    for one in shards:
        shard, size, root, _ = tree_of(one)
        verified.append({"shard": shard, "size": size, "root": root.hex(), "entries": size})
    return verified


def hashes(text: str) -> list[bytes]:
    return [base64.b64decode(line, validate=True) for line in text.split()]


def receipt(directory: Path, entry: Path, proof: Path) -> dict:
    head, _, note = proof.read_text(encoding="utf-8").partition("\n\n")
    version, index, *path = head.split("\n")
    if version != "c2sp.org/tlog-proof@v1" or not index.startswith("index "):
        raise Refused("no c2sp.org/tlog-proof@v1 without extra data")
    number = int(index.removeprefix("index "))
    shard, size, root = checkpoint(note)
    *_, tree = tree_of(directory)
    # Counting from one. Which sibling stands on which side follows from index and size alone.
    place = number + 1
    rule = tree.prove_inclusion(place, size).rule
    leaf = tree.hash_buff(entry.read_bytes())
    ours = InclusionProof("sha256", True, size, place, rule, [leaf, *hashes("\n".join(path))])
    verify_inclusion(leaf, root, ours, index=place, size=size, algorithm="sha256")
    if tree.get_leaf(place) != leaf:
        raise Refused("the shard has another entry at this index")
    return {"shard": shard, "size": size, "root": root.hex(), "index": number}


def consistency(directory: Path, old: Path) -> dict:
    shard, size, root, tree = tree_of(directory)
    older, before, old_root = checkpoint(old.read_text(encoding="utf-8"))
    if older != shard:
        raise Refused("the checkpoints are of two shards")
    if tree.get_root(before) != old_root:
        raise Refused(f"the first {before} entries have another root")
    return {"shard": shard, "size": size, "root": root.hex()}


def main() -> int:
    verbs = {"log": (log, 1), "receipt": (receipt, 3), "consistency": (consistency, 2)}
    verb, wanted = verbs.get(sys.argv[1] if len(sys.argv) > 1 else "", (None, 0))
    if verb is None or len(sys.argv) != wanted + 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(json.dumps(verb(*map(Path, sys.argv[2:]))))
    except (Refused, InvalidChallenge, InvalidProof, OSError, ValueError) as error:
        print(f"verify_log: refused: {error or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
