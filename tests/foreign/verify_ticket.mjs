// Verifies a ticket in two ways that none of us wrote: npm `@auth0/cose` (WebCrypto), and npm `cborg`
// with `@noble/curves` over a Sig_structure put together here as RFC 9052, 4.4 says.
//
//   verify_ticket.mjs TICKET COSE_KEY [--any-time]
//
// Prints the same line of JSON as verify_ticket.py; exits 1, with one line on stderr, when either
// refuses or the headers are not those of TKT-2.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { COSEKey, Sign1 } from '@auth0/cose';
import { ed25519 } from '@noble/curves/ed25519.js';
import * as cborg from 'cborg';

const NAMES = { 1: 'iss', 2: 'sub', 3: 'aud', 4: 'exp', 5: 'nbf', 6: 'iat', 7: 'cti', 8: 'cnf' };
const TYPES = ['postern-node-ticket', 'postern-dataset-ticket'];
const [KTY, CRV, X, ALG, KID, TYP] = [1, -1, -2, 1, 4, 16];
const SIGN1 = 18;

const refuse = (why) => {
  throw new Error(why);
};
const same = (a, b) => a instanceof Uint8Array && b instanceof Uint8Array && Buffer.compare(a, b) === 0;

// Strict: the decoder itself refuses trailing bytes, and with these doubled keys, indefinite
// lengths and integers that are longer than need be.
const decode = (bytes) => {
  const tags = [];
  tags[SIGN1] = (inner) => ({ sign1: inner() });
  return cborg.decode(bytes, {
    useMaps: true, strict: true, allowIndefinite: false, rejectDuplicateMapKeys: true, tags,
  });
};

// RFC 8949, 4.2.1 for the three members of an OKP key: 1, -1, -2 in bytewise order of their encodings.
const thumbprint = (x) =>
  createHash('sha256').update(Buffer.from('a301012006215820', 'hex')).update(x).digest();

function brokerKey(bytes) {
  const key = decode(bytes);
  if (!(key instanceof Map) || key.get(KTY) !== 1 || key.get(CRV) !== 6) refuse('no Ed25519 COSE_Key');
  const x = key.get(X);
  if (!(x instanceof Uint8Array) || x.length !== 32) refuse('no public key of 32 bytes');
  return x;
}

// cborg + noble.
function bySigStructure(ticket, x) {
  const { sign1 } = decode(ticket);
  if (!Array.isArray(sign1) || sign1.length !== 4) refuse('no tagged COSE_Sign1');
  const [protectedBytes, unprotected, payload, signature] = sign1;
  const headers = decode(protectedBytes);
  if (unprotected.size !== 0 || headers.size !== 3) refuse('other headers than alg, kid, typ');
  if (headers.get(ALG) !== -8) refuse('alg is not EdDSA');
  if (!TYPES.includes(headers.get(TYP))) refuse(`unknown typ ${headers.get(TYP)}`);
  if (!same(headers.get(KID), thumbprint(x))) refuse('kid is not the thumbprint of the broker key');
  const signed = cborg.encode(['Signature1', protectedBytes, new Uint8Array(0), payload]);
  if (!ed25519.verify(signature, signed, x, { zip215: false })) refuse('noble: bad signature');
  return payload;
}

// @auth0/cose.
async function byLibrary(ticket, x) {
  const key = COSEKey.import(new Map([[KTY, 1], [CRV, 6], [X, x], [3, -8]]));
  const message = Sign1.decode(ticket);
  await message.verify(await key.toKeyLike());
  return message.payload;
}

function shown(value) {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (Array.isArray(value)) return value.map(shown);
  if (value instanceof Map) {
    const members = [...value].map(([name, member]) => [String(name), shown(member)]);
    return Object.fromEntries(members.sort(([a], [b]) => (a < b ? -1 : 1)));
  }
  return value;
}

// JSON.stringify puts integer-like names first; this keeps the sorted order.
function json(value) {
  if (value === null || typeof value !== 'object') {
    return typeof value === 'bigint' ? String(value) : JSON.stringify(value);
  }
  if (Array.isArray(value)) return `[${value.map(json).join(',')}]`;
  const names = Object.keys(value).sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${json(value[name])}`).join(',')}}`;
}

const anyTime = process.argv.includes('--any-time');
const [ticketFile, keyFile] = process.argv.slice(2).filter((word) => word !== '--any-time');
if (keyFile === undefined) {
  console.error('usage: verify_ticket.mjs TICKET COSE_KEY [--any-time]');
  process.exit(2);
}
try {
  // A Buffer is a Uint8Array to everybody but to those who compare constructors.
  const ticket = new Uint8Array(fs.readFileSync(ticketFile));
  const x = brokerKey(new Uint8Array(fs.readFileSync(keyFile)));
  const payload = bySigStructure(ticket, x);
  if (!same(new Uint8Array(await byLibrary(ticket, x)), payload)) refuse('two different payloads');
  const claims = decode(payload);
  const now = Math.floor(Date.now() / 1000);
  if (!anyTime && (claims.get(4) <= now || claims.get(5) > now + 60)) refuse('not live now');
  const named = new Map([...claims].map(([number, value]) => [NAMES[number] ?? number, value]));
  console.log(json(shown(named)));
} catch (error) {
  console.error(`verify_ticket: refused: ${error.message}`);
  process.exit(1);
}
