// Reads mutated headers until `COUNT` are done, or one is not read or refused as it should be.
// node fuzz-headers.mjs SEED COUNT: tells one line of JSON; exit code 1 and the header in base64 after a failure.
//
// Mutations know the structure: they delete, double, swap, replace, nest and repeat tokens, join two headers, and damage
// bytes last. Headers that gave a new kind of answer are mutated further. Every thousandth is opened as a file.
import { readFileSync, rmSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SafetensorsError, SafetensorsFile, storedDTypes } from '../../dist/checkpoints/index.js';
import { parseHeader } from '../../dist/checkpoints/safetensors/header.js';
import { parseShardIndex } from '../../dist/checkpoints/tensors/shard-index.js';
import { streamKey, uniformAt } from '../../dist/nn/index.js';

const [seed, count] = process.argv.slice(2).map(Number);
const key = streamKey(seed, 0, 'fuzz');
let drawn = 0;
const below = (limit) => Math.floor(uniformAt(key, drawn++) * limit);
const one = (list) => list[below(list.length)];

/** Strings, numbers and words, punctuation, white space; whatever else byte by byte. */
const TOKEN = /"(?:[^"\\]|\\.)*"|[-+.\w]+|\s+|[^]/gu;
const tokensOf = (text) => text.match(TOKEN) ?? [];

const corpus = JSON.parse(readFileSync(new URL('safetensors/corpus.json', import.meta.url), 'utf8')).cases;
const basesOf = (cases) => cases.map(({ header, data }) => ({ tokens: tokensOf(header), data }));
const headers = basesOf(corpus.filter(({ header }) => header !== undefined));
const sound = basesOf(corpus.filter(({ accepted }) => accepted));
const indices = [
  '{"metadata":{"total_size":16},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}',
  '{"weight_map":{"\\u0061":"é.safetensors","__proto__":"_.safetensors"},"metadata":{"x":null,"y":-1.5e3,"z":true,"total_parameters":7}}',
  '{"weight_map":{}}',
].map((text) => ({ tokens: tokensOf(text), data: 0 }));

const numbers = [
  ...['0', '1', '2', '7', '8', '9', '16', '-1', '-0', '00', '1.0', '0.5', '1e3', '1e308', '1e999', 'NaN'],
  ...['255', '256', '65536', '4294967295', '4294967296', '9007199254740991', '9007199254740992'],
  ...['9223372036854775807', '9223372036854775808', '18446744073709551615', '18446744073709551616'],
];
const atoms = [
  ...[
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '"',
    '\\',
    ' ',
    '\n',
    '\t',
    '\0',
    '\ufeff',
    '{}',
    '[]',
    '""',
    'null',
    'true',
  ],
  ...[
    '"dtype"',
    '"shape"',
    '"data_offsets"',
    '"__metadata__"',
    '"__proto__"',
    '"w"',
    '"\\ud800"',
    '"\\u0000"',
  ],
  ...[
    '"weight_map"',
    '"metadata"',
    '"total_size"',
    '"../x.safetensors"',
    '"x.safetensors"',
    '"X.safetensors"',
  ],
  ...Object.keys(storedDTypes).map((name) => `"${name}"`),
];

/** Each changes a list of tokens in place. */
const mutations = [
  (tokens, at) => tokens.splice(at, 1 + below(3)),
  (tokens, at) => tokens.splice(at, 0, tokens[at]),
  (tokens, at) => {
    const other = below(tokens.length);
    [tokens[at], tokens[other]] = [tokens[other], tokens[at]];
  },
  (tokens, at) => (tokens[at] = one(atoms)),
  (tokens, at) => (tokens[at] = one(numbers)),
  (tokens, at) => {
    const near = tokens.findIndex((token, i) => i >= at && /^\d{1,15}$/.test(token));
    if (near >= 0) tokens[near] = String(Number(tokens[near]) + one([-8, -1, 1, 8]));
  },
  (tokens, at) => tokens.splice(at, 0, one(atoms)),
  (tokens, at) => tokens.splice(at, 0, one([' ', '\n', '\t', '\r', '\u00a0', '\v'])),
  (tokens, at) => (tokens[at] = '['.repeat(below(40)) + tokens[at] + ']'.repeat(below(40))),
  (tokens, at) => {
    const piece = tokens.slice(at, at + 1 + below(16));
    for (let times = below(6); times > 0; times--) tokens.splice(at, 0, ...piece);
  },
  (tokens, at) => {
    const other = one(headers).tokens;
    tokens.splice(at, tokens.length, ...other.slice(below(other.length)));
  },
  (tokens, at) => (tokens[at] = tokens[at].replace(/\w/, (c) => `\\u00${c.charCodeAt(0).toString(16)}`)),
  (tokens, at) => tokens.splice(at, tokens.length),
];

function mutate({ tokens: base, data }) {
  const tokens = [...base];
  for (let times = 1 + below(below(6) + 1); times > 0; times--) {
    if (tokens.length === 0 || tokens.length > 5000) break;
    one(mutations)(tokens, below(tokens.length));
  }
  const bytes = Buffer.from(tokens.join(''));
  if (below(8) === 0 && bytes.length > 0) bytes[below(bytes.length)] = below(256);
  return { tokens, bytes, data: below(16) === 0 ? below(40) : data };
}

/** A kind of answer: what two refusals have in common, or how many tensors there were. */
function read({ bytes, data }, isIndex) {
  try {
    if (isIndex) {
      const { shardOf, shards } = parseShardIndex(bytes, 'f');
      const value = JSON.parse(bytes.toString());
      if (shardOf.size !== Object.keys(value.weight_map).length) throw new Error('the index says otherwise');
      if (shards.some((name) => /[/\\:\0]/.test(name))) throw new Error('a shard that is no file name');
      return `index ${Math.min(9, shards.length)}`;
    }
    const { tensors, metadata } = parseHeader(bytes, data, 'f');
    checkMeaning(JSON.parse(bytes.toString()), tensors, metadata, data);
    return `header ${Math.min(9, tensors.size)} ${Math.min(9, metadata.size)}`;
  } catch (error) {
    if (!(error instanceof SafetensorsError)) throw error;
    if (/[\n\r\0]/.test(error.message) || error.message.length > 2000)
      throw new Error(`message: ${error.message}`);
    return error.message.replace(/"(?:[^"\\]|\\.)*"|\d+|\[.*\]/g, '#').slice(0, 120);
  }
}

/** What was read is what JSON says, and fills the data with neither hole nor overlap. */
function checkMeaning(value, tensors, metadata, data) {
  const { __metadata__: texts = {}, ...entries } = Object.assign(Object.create(null), value);
  if (Object.keys(texts).length !== metadata.size) throw new Error('the metadata says otherwise');
  if (Object.keys(entries).length !== tensors.size) throw new Error('the header names other tensors');
  let at = 0;
  for (const { name, dtype, shape, begin, end } of tensors.values()) {
    const said = entries[name];
    const same =
      said.dtype === dtype &&
      String(said.shape) === String(shape) &&
      String(said.data_offsets) === `${begin},${end}`;
    const bits = shape.reduce((product, size) => product * BigInt(size), BigInt(storedDTypes[dtype].bits));
    if (!same || begin !== at || bits !== 8n * BigInt(end - begin))
      throw new Error(`tensor ${name} is read wrongly`);
    at = end;
  }
  if (at !== data) throw new Error('the data is not filled');
}

const folder = mkdtempSync(join(tmpdir(), 'switchyard-fuzz-'));
async function openFile({ bytes, data }) {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(
    BigInt.asUintN(64, BigInt(bytes.length + one([0, 0, 0, 1, -1, 2 ** 31, -(2 ** 40)]))),
  );
  const path = join(folder, 'f');
  writeFileSync(path, Buffer.concat([length, bytes, Buffer.alloc(data)]));
  try {
    const file = await SafetensorsFile.open(path);
    for (const name of file.tensors.keys()) await file.read(name);
    await file.close();
  } catch (error) {
    if (!(error instanceof SafetensorsError)) throw error;
  }
}

const kinds = new Map();
const pools = { header: [...headers], index: [...indices] };
const startRss = process.memoryUsage.rss();
let [peakRss, slowest, accepted] = [startRss, 0, 0];
let current;
try {
  for (let done = 0; done < count; done++) {
    const isIndex = done % 8 === 7;
    const pool = isIndex ? pools.index : pools.header;
    current = mutate(one(!isIndex && done % 2 === 0 ? sound : pool));
    const started = process.hrtime.bigint();
    const kind = read(current, isIndex);
    slowest = Math.max(slowest, Number(process.hrtime.bigint() - started) / 1e6);
    if (/^(index|header) \d/.test(kind)) accepted++;
    if (!kinds.has(kind) && kinds.size < 1000) pool.push({ tokens: current.tokens, data: current.data });
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    if (done % 1000 === 0) {
      await openFile(current);
      peakRss = Math.max(peakRss, process.memoryUsage.rss());
    }
  }
  const megabytes = (bytes) => Math.round(bytes / 1e5) / 10;
  console.log(
    JSON.stringify({
      ...{
        seed,
        headers: count,
        accepted,
        kindsOfAnswer: kinds.size,
        slowestMilliseconds: Math.round(slowest),
      },
      ...{ startMegabytes: megabytes(startRss), aboveStartMegabytes: megabytes(peakRss - startRss) },
    }),
  );
} catch (error) {
  console.log(
    JSON.stringify({
      failed: current.bytes.toString('base64'),
      data: current.data,
      why: String(error?.stack),
    }),
  );
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
