// Verifies what the keys of a log and of its witnesses have signed, with npm `@noble/curves` (Ed25519),
// `@noble/post-quantum` (ML-DSA-44) and `@noble/hashes` (SHA-256); the messages that are signed are put
// together here as c2sp.org/signed-note and c2sp.org/tlog-cosignature say.
//
//   verify_log.mjs checkpoint NOTE LOG-KEYS [WITNESS-KEYS...]
//   verify_log.mjs receipt ENTRY PROOF LOG-KEYS [WITNESS-KEYS...]
//
// A file of keys has verifier keys, one a line: the log's two, named by its origin, or a witness's. Every
// key of every file must have signed. Prints one line of JSON; exits 1 with one line on stderr when
// something does not verify, 2 on usage.
import fs from 'node:fs';
import { ed25519 } from '@noble/curves/ed25519.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { ml_dsa44 } from '@noble/post-quantum/ml-dsa.js';

const [ED25519_NOTE, ED25519_COSIGNATURE, ML_DSA_44_COSIGNATURE] = [1, 4, 6];

const refuse = (why) => {
  throw new Error(why);
};
const utf8 = (text) => new TextEncoder().encode(text);
const read = (file) => new Uint8Array(fs.readFileSync(file));
const readText = (file) => new TextDecoder('utf-8', { fatal: true }).decode(read(file));
const join = (...parts) => new Uint8Array(Buffer.concat(parts.map((part) => Uint8Array.from(part))));
const hex = (bytes) => Buffer.from(bytes).toString('hex');
const uint64 = (number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(number));
  return bytes;
};

// Strict: Buffer takes anything for base64.
function base64(text) {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') !== text) refuse(`no base64: ${text.slice(0, 40)}`);
  return new Uint8Array(bytes);
}

function decimal(text) {
  if (!/^(0|[1-9][0-9]{0,18})$/.test(text)) refuse(`no number: ${text}`);
  return BigInt(text);
}

const keyId = (name, typed) => hex(sha256(join(utf8(`${name}\n`), typed)).subarray(0, 4));

function keys(file) {
  return readText(file)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [, name, id, key] = /^([^+]+)\+([0-9a-f]{8})\+(.+)$/.exec(line) ?? refuse('no verifier key');
      const typed = base64(key);
      if (keyId(name, typed) !== id) refuse(`the id of ${name}'s key is another one`);
      return { name, typed };
    });
}

function openNote(text) {
  const end = text.lastIndexOf('\n\n');
  if (end < 0 || !text.endsWith('\n')) refuse('the note has no signatures');
  const body = text.slice(0, end + 1);
  const lines = body.split('\n');
  if (lines.length !== 4) refuse('a checkpoint has three lines');
  const signatures = text.slice(end + 2, -1).split('\n').map((line) => {
    const [, name, signature] = /^\u2014 (\S+) (\S+)$/.exec(line) ?? refuse('a signature line is malformed');
    const bytes = base64(signature);
    return { name, id: hex(bytes.subarray(0, 4)), signature: bytes.subarray(4) };
  });
  const [shard, size, root] = lines;
  return { body, shard, size: decimal(size), root: base64(root), signatures };
}

// `cosigned_message` over the whole tree.
const cosigned = (note, signer, time) => {
  const short = (text) => join([utf8(text).length], utf8(text));
  return join(utf8('subtree/v1\n\0'), short(signer), time, short(note.shard), uint64(0), uint64(note.size), note.root);
};

function holds(note, name, typed, signature) {
  const [type, key] = [typed[0], typed.subarray(1)];
  const [time, timed] = [signature.subarray(0, 8), signature.subarray(8)];
  switch (type) {
    case ED25519_NOTE:
      return ed25519.verify(signature, utf8(note.body), key, { zip215: false });
    case ED25519_COSIGNATURE: {
      const seconds = Buffer.from(time).readBigUInt64BE();
      const message = utf8(`cosignature/v1\ntime ${seconds}\n${note.body}`);
      return ed25519.verify(timed, message, key, { zip215: false });
    }
    case ML_DSA_44_COSIGNATURE:
      return ml_dsa44.verify(timed, cosigned(note, name, time), key);
    default:
      return refuse(`no kind of key: ${type}`);
  }
}

// Every key must have signed, and all of its lines must hold. Says which kinds of whom.
function verify(note, files) {
  const signed = [];
  files.forEach((file, position) => {
    for (const { name, typed } of keys(file)) {
      // The log signs under its shard's name.
      const signer = position === 0 ? note.shard : name;
      if (position === 0 && !new RegExp('^/[1-9][0-9]*$').test(note.shard.slice(name.length))) refuse('another log');
      if (position === 0 && !note.shard.startsWith(name)) refuse('another log');
      const id = keyId(signer, typed);
      const lines = note.signatures.filter((line) => line.name === signer && line.id === id);
      if (lines.length === 0) refuse(`not signed by the key of kind ${typed[0]} of ${signer}`);
      if (!lines.every((line) => holds(note, signer, typed, line.signature))) {
        refuse(`bad signature by the key of kind ${typed[0]} of ${signer}`);
      }
      signed.push([signer, typed[0]]);
    }
  });
  if (signed.length < 2) refuse('no keys');
  return signed;
}

// RFC 9162, 2.1.3.2.
function rootOf(leaf, index, size, path) {
  if (index >= size) refuse('the index is not in the tree');
  let [node, last, root] = [index, size - 1n, leaf];
  for (const hash of path) {
    if (last === 0n) refuse('the path is too long');
    if ((node & 1n) === 1n || node === last) {
      root = sha256(join([1], hash, root));
      while ((node & 1n) === 0n && node !== 0n) [node, last] = [node >> 1n, last >> 1n];
    } else {
      root = sha256(join([1], root, hash));
    }
    [node, last] = [node >> 1n, last >> 1n];
  }
  if (last !== 0n) refuse('the path is too short');
  return root;
}

const shown = (note, signed) => ({
  shard: note.shard,
  size: Number(note.size),
  root: hex(note.root),
  signed,
});

function checkpoint(file, ...files) {
  const note = openNote(readText(file));
  return shown(note, verify(note, files));
}

function receipt(entryFile, proofFile, ...files) {
  const text = readText(proofFile);
  const end = text.indexOf('\n\n');
  const [version, index, ...path] = text.slice(0, end).split('\n');
  if (end < 0 || version !== 'c2sp.org/tlog-proof@v1') refuse('no c2sp.org/tlog-proof@v1');
  const number = decimal(/^index (.+)$/.exec(index)?.[1] ?? refuse('no index'));
  const note = openNote(text.slice(end + 2));
  const leaf = sha256(join([0], read(entryFile)));
  const root = rootOf(leaf, number, note.size, path.map(base64));
  if (hex(root) !== hex(note.root)) refuse('the entry is not in the tree');
  return { ...shown(note, verify(note, files)), index: Number(number) };
}

const [verb, ...files] = process.argv.slice(2);
const run = { checkpoint: [checkpoint, 2], receipt: [receipt, 3] }[verb];
if (run === undefined || files.length < run[1]) {
  console.error('usage: verify_log.mjs checkpoint NOTE LOG-KEYS [WITNESS-KEYS...] | receipt ENTRY PROOF LOG-KEYS [WITNESS-KEYS...]');
  process.exit(2);
}
try {
  console.log(JSON.stringify(run[0](...files)));
} catch (error) {
  console.error(`verify_log: refused: ${error.message}`);
  process.exit(1);
}
