import { readdirSync, readlinkSync } from 'node:fs';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SafetensorsError, type SafetensorsErrorCode } from './errors.js';
import { SafetensorsFile } from './reader.js';

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-malformed-'));
  path = join(folder, 'bad.safetensors');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A file with a header as given, which need not make sense. */
function file(header: string | Uint8Array, data = 0, claimed?: bigint): Buffer {
  const json = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(claimed ?? BigInt(json.length));
  return Buffer.concat([length, json, Buffer.alloc(data)]);
}

const entry = (fields = '"dtype":"F32","shape":[2],"data_offsets":[0,8]'): string => `{"w":{${fields}}}`;
const shape = (text: string, dtype = 'F32', span = '0,8'): string =>
  entry(`"dtype":"${dtype}","shape":${text},"data_offsets":[${span}]`);
const offsets = (text: string): string => entry(`"dtype":"F32","shape":[2],"data_offsets":${text}`);
const tensors = (...spans: readonly (readonly [number, number])[]): string =>
  `{${spans.map(([a, b], i) => `"t${i}":{"dtype":"U8","shape":[${b - a}],"data_offsets":[${a},${b}]}`).join(',')}}`;

/** What must be refused, with the code of the refusal; the numbers are those of the project's list of loader tests. */
const refused: readonly (readonly [string, SafetensorsErrorCode, () => Uint8Array])[] = [
  ['1 empty file', 'header-size', () => Buffer.alloc(0)],
  ['1 seven bytes', 'header-size', () => Buffer.alloc(7)],
  ['1 eight bytes', 'header-size', () => file('', 0, 2n)],
  ['2 length 0', 'header-size', () => file(entry(), 8, 0n)],
  ['2 length 1', 'json', () => file(entry(), 8, 1n)],
  ['2 length beyond the file', 'header-size', () => file('{}', 0, 3n)],
  ['2 length above the limit', 'header-size', () => file('{}', 0, 100_000_001n)],
  ['2 length 2^63', 'header-size', () => file('{}', 0, 1n << 63n)],
  ['2 length 2^64 - 1', 'header-size', () => file('{}', 0, (1n << 64n) - 1n)],
  ['3 not UTF-8', 'utf8', () => file(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]))],
  ['3 overlong UTF-8', 'utf8', () => file(Buffer.from([0x7b, 0x22, 0xc0, 0xaf, 0x22, 0x7d]))],
  ['3 byte order mark', 'json', () => file(`\ufeff${entry()}`, 8)],
  ['3 NUL padding', 'json', () => file(`${entry()}\0\0\0`, 8)],
  ['4 not JSON', 'json', () => file('<html>')],
  ...['[]', '17', '"text"', 'null', 'true', ' '].map(
    (root) => [`4 root ${root}`, 'json', () => file(root)] as const,
  ),
  ['4 nesting 10,000 deep', 'json', () => file('['.repeat(10_000))],
  ['4 nesting 10,000 deep in an entry', 'entry', () => file(`{"w":${'['.repeat(10_000)}`)],
  ['4 nesting 10,000 deep in a shape', 'shape', () => file(shape('['.repeat(10_000)))],
  ['4 objects 10,000 deep', 'entry', () => file('{"a":'.repeat(10_000))],
  ['4 one string of 50 MB', 'json', () => file(`"${'a'.repeat(50_000_000)}"`)],
  ['4 bytes after the object', 'json', () => file(`${entry()}{}`, 8)],
  ['4 comma at the end', 'json', () => file('{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},}')],
  ['4 no comma', 'json', () => file('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"b":{}}')],
  ['4 no colon', 'json', () => file('{"w"{}}')],
  ['4 single quotes', 'json', () => file("{'w':{}}")],
  ['4 end inside a string', 'json', () => file('{"w')],
  ['4 end after a backslash', 'json', () => file('{"w\\')],
  ['4 end inside an entry', 'json', () => file('{"w":{"dtype":"F32"')],
  ['4 newline in a string', 'json', () => file('{"a\nb":{}}')],
  ['4 wrong escape', 'json', () => file('{"\\x41":{}}')],
  ['4 short escape', 'json', () => file('{"\\u12":{}}')],
  ['4 half a surrogate pair', 'json', () => file('{"\\ud800":{}}')],
  ['5 tensor name twice', 'duplicate', () => file(`${entry().slice(0, -1)},${entry().slice(1)}`, 8)],
  [
    '5 tensor name twice, spelt differently',
    'duplicate',
    () => file(`${entry().slice(0, -1)},${entry().slice(1).replace('"w"', '"\\u0077"')}`, 8),
  ],
  ['5 __metadata__ twice', 'duplicate', () => file('{"__metadata__":{},"__metadata__":{}}')],
  ['5 key of __metadata__ twice', 'duplicate', () => file('{"__metadata__":{"a":"1","a":"2"}}')],
  [
    '5 dtype twice',
    'duplicate',
    () => file(entry('"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]'), 8),
  ],
  [
    '5 shape twice',
    'duplicate',
    () => file(entry('"dtype":"F32","shape":[9],"shape":[2],"data_offsets":[0,8]'), 8),
  ],
  ['7 number in __metadata__', 'metadata', () => file('{"__metadata__":{"a":1}}')],
  ['7 null in __metadata__', 'metadata', () => file('{"__metadata__":{"a":null}}')],
  ['7 object in __metadata__', 'metadata', () => file('{"__metadata__":{"a":{}}}')],
  ['7 __metadata__ a string', 'metadata', () => file('{"__metadata__":"a"}')],
  ['7 __metadata__ null', 'metadata', () => file('{"__metadata__":null}')],
  ['8 unknown dtype', 'dtype', () => file(shape('[2]', 'F33'), 8)],
  ['8 lower-case dtype', 'dtype', () => file(shape('[2]', 'f32'), 8)],
  ['8 dtype of an object', 'dtype', () => file(shape('[2]', 'constructor'), 8)],
  ['8 dtype a number', 'dtype', () => file(entry('"dtype":4,"shape":[2],"data_offsets":[0,8]'), 8)],
  ['8 no dtype', 'entry', () => file(entry('"shape":[2],"data_offsets":[0,8]'), 8)],
  ['8 no shape', 'entry', () => file(entry('"dtype":"F32","data_offsets":[0,8]'), 8)],
  ['8 no offsets', 'entry', () => file(entry('"dtype":"F32","shape":[2]'), 8)],
  ['8 nothing', 'entry', () => file(entry(''), 8)],
  ['8 entry null', 'entry', () => file('{"w":null}')],
  ['8 unknown field', 'entry', () => file(entry('"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1'), 8)],
  ...[
    '[-2]',
    '[2.0]',
    '[2.5]',
    '[NaN]',
    '[1e308]',
    '[2e0]',
    '[9007199254740992]',
    '["2"]',
    '2',
    'null',
    '[[2]]',
  ].map((text) => [`9 shape ${text}`, 'shape', () => file(shape(text), 8)] as const),
  ['9 number of a million digits', 'shape', () => file(shape(`[${'9'.repeat(1_000_000)}]`), 8)],
  ['9 number that starts with 0', 'json', () => file(shape('[02]'), 8)],
  ['9 product above 2^53', 'shape', () => file(shape('[4294967296,4294967296]'), 8)],
  ['9 product times size above 2^53', 'shape', () => file(shape('[1125899906842624]', 'F64'), 8)],
  [
    '9 product that is infinite',
    'shape',
    () => file(shape(`[${Array(40).fill('9007199254740991').join(',')}]`), 8),
  ],
  ['9 1,000 sizes', 'shape', () => file(shape(`[${Array(1000).fill(1).join(',')}]`, 'U8', '0,1'), 1)],
  ...['[-1,7]', '[0,8.5]', '[0,8e0]', '["0",8]', '[0]', '[]', '[0,8,8]', '8', '[8,0]'].map(
    (text) => [`11 offsets ${text}`, 'offsets', () => file(offsets(text), 8)] as const,
  ),
  ['11 past the end', 'file-size', () => file(offsets('[0,8]'), 7)],
  ['11 overlap by one byte', 'offsets', () => file(tensors([0, 4], [3, 8]), 8)],
  ['11 gap of one byte', 'offsets', () => file(tensors([0, 4], [5, 8]), 8)],
  ['11 first not 0', 'offsets', () => file(tensors([1, 4]), 4)],
  ['11 one inside another', 'offsets', () => file(tensors([0, 8], [2, 4]), 8)],
  ['11 empty tensor inside another', 'offsets', () => file(tensors([0, 8], [4, 4]), 8)],
  ['11 empty tensor past the end', 'offsets', () => file(tensors([0, 8], [9, 9]), 8)],
  ['11 last short', 'file-size', () => file(tensors([0, 4], [4, 7]), 8)],
  [
    '12 one region of 100,000 tensors',
    'offsets',
    () => file(tensors(...Array.from({ length: 100_000 }, () => [0, 64] as const)), 64),
  ],
  ['12 a tensor of 8 PiB', 'file-size', () => file(tensors([0, 2 ** 49]))],
  ['13 span above shape times dtype', 'span', () => file(shape('[1]'), 8)],
  ['13 span below shape times dtype', 'span', () => file(shape('[3]'), 8)],
  ['13 span of an empty tensor', 'span', () => file(shape('[0]'), 8)],
  ['13 half a byte', 'span', () => file(shape('[3]', 'F4', '0,1'), 1)],
  ['13 three quarters of a byte', 'span', () => file(shape('[1]', 'F6_E2M3', '0,1'), 1)],
  ['14 one byte after the last tensor', 'file-size', () => file(offsets('[0,8]'), 9)],
  ['14 bytes without a tensor', 'file-size', () => file('{}', 1)],
];

/** Files that this process has open in the test's folder. */
const openHere = (): number =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(folder);
    } catch {
      return false;
    }
  }).length;

describe('refused before anything is allocated', () => {
  it.each(refused)('%s: %s', async (_, code, bytes) => {
    await writeFile(path, bytes());
    const before = process.memoryUsage();
    const started = process.cpuUsage();
    const error = await SafetensorsFile.open(path).catch((e: unknown) => e);
    const { user, system } = process.cpuUsage(started);
    const after = process.memoryUsage();
    expect(error).toBeInstanceOf(SafetensorsError);
    const { message, file: named, code: found } = error as SafetensorsError;
    expect({ found, message }).toMatchObject({ found: code });
    expect(named).toBe(path);
    expect(message.startsWith(`${path}: `)).toBe(true);
    expect(message).not.toMatch(/[\n\r\0]/);
    expect(message.length).toBeLessThan(path.length + 1000);
    // Time of the processor, whatever else the machine does; the largest headers here have 50 MB.
    expect((user + system) / 1000).toBeLessThan(1500);
    expect(after.arrayBuffers + after.external - before.arrayBuffers - before.external).toBeLessThan(130e6);
    if (process.platform === 'linux') expect(openHere()).toBe(0);
  });

  it('what is not a file', async () => {
    await expect(SafetensorsFile.open(join(folder, 'none'))).rejects.toThrow(/none: cannot open: .*ENOENT/);
    await expect(SafetensorsFile.open(folder)).rejects.toMatchObject({ code: 'open' });
    await expect(SafetensorsFile.open('/dev/null')).rejects.toThrow('is not a regular file');
  });

  it('messages show the tensor by an escaped name', async () => {
    const name = 'evil\\n\\u001b[31m\\u0000\\u009b\\u2028';
    await writeFile(
      path,
      file(`{"${name}${'x'.repeat(1e6)}":{"dtype":"?","shape":[],"data_offsets":[0,0]}}`),
    );
    const error = (await SafetensorsFile.open(path).catch((e: unknown) => e)) as SafetensorsError;
    expect(error.message).toContain('tensor "evil\\n\\u001b[31m\\u0000\\u009b\\u2028xxx');
    expect(error.message).toMatch(/^[\x20-\x7e…]*$/);
  });
});

describe('accepted', () => {
  const opens = async (bytes: Uint8Array): Promise<SafetensorsFile> => {
    await writeFile(path, bytes);
    return SafetensorsFile.open(path);
  };

  it('3 white space around and inside the JSON', async () => {
    const opened = await opens(
      file(' \n\t\r{ "w" : { "shape" : [ 2 ] , "data_offsets" : [ 0 , 8 ] , "dtype" : "F32" } } \r\n', 8),
    );
    expect(opened.tensors.get('w')).toEqual({ name: 'w', dtype: 'F32', shape: [2], begin: 0, end: 8 });
    await opened.close();
  });

  it('6 any name', async () => {
    const names = [
      '__proto__',
      'constructor',
      'toString',
      '',
      'n'.repeat(1_000_000),
      'a\0b',
      'a\nb',
      '\ud83d\ude00',
      '"\\/',
    ];
    const header = names.map(
      (name, i) => `${JSON.stringify(name)}:{"dtype":"U8","shape":[1],"data_offsets":[${i},${i + 1}]}`,
    );
    const bytes = file(`{${header.join(',')}}`, names.length);
    bytes.forEach((_, i) => i >= bytes.length - names.length && (bytes[i] = i - bytes.length + names.length));
    const opened = await opens(bytes);
    expect([...opened.tensors.keys()]).toEqual(names);
    for (const [i, name] of names.entries()) expect(await opened.read(name)).toEqual(Uint8Array.of(i));
    for (const absent of ['hasOwnProperty', 'valueOf', 'x'])
      await expect(opened.read(absent)).rejects.toMatchObject({ code: 'missing' });
    await opened.close();
  });

  it('6 any key of __metadata__', async () => {
    const opened = await opens(file('{"__metadata__":{"__proto__":"p","":"e","format":"pt\\u00e9"}}'));
    expect([...opened.metadata]).toEqual([
      ['__proto__', 'p'],
      ['', 'e'],
      ['format', 'pté'],
    ]);
    await opened.close();
  });

  it('10 scalars, empty tensors, and empty tensors that share an offset', async () => {
    const at = (name: string, sizes: string, begin: number, end: number): string =>
      `"${name}":{"dtype":"F32","shape":[${sizes}],"data_offsets":[${begin},${end}]}`;
    const parts = [
      at('last', '3,0', 8, 8),
      at('b', '', 4, 8),
      at('z1', '0', 4, 4),
      at('z2', '0,9007199254740991,9007199254740991', 4, 4),
      at('first', '0', 0, 0),
      at('a', '1,1', 0, 4),
    ];
    const opened = await opens(file(`{${parts.join(',')}}`, 8));
    expect((await opened.read('b')).length).toBe(1);
    for (const name of ['first', 'z1', 'z2', 'last']) expect((await opened.read(name)).length).toBe(0);
    await opened.close();
    const empty = await opens(file('{}'));
    expect(empty.tensors.size).toBe(0);
    await empty.close();
  });

  it('a header just within the limits', async () => {
    const sizes = Array(64).fill(1).join(',');
    const opened = await opens(file(`{"w":{"dtype":"U8","shape":[${sizes}],"data_offsets":[0,1]}}`, 1));
    expect(opened.tensors.get('w')!.shape).toHaveLength(64);
    await opened.close();
  });
});

describe('files that change while they are open', () => {
  const header = file(tensors([0, 1000], [1000, 3000]), 3000);

  it('17 a file that shrinks', async () => {
    await writeFile(path, header);
    const opened = await SafetensorsFile.open(path);
    const handle = await open(path, 'r+');
    await handle.truncate(header.length - 1);
    await expect(opened.read('t1')).rejects.toMatchObject({ code: 'changed' });
    // What is still there whole is refused as well: nobody knows what it is now.
    await expect(opened.read('t0')).rejects.toMatchObject({ code: 'changed' });
    await handle.close();
    await opened.close();
  });

  it('17 a file that is written to', async () => {
    await writeFile(path, header);
    const opened = await SafetensorsFile.open(path);
    await opened.read('t0');
    const handle = await open(path, 'r+');
    // Clocks of file systems tick every few milliseconds.
    await new Promise((resolve) => setTimeout(resolve, 20));
    await handle.write(Buffer.from([1]), 0, 1, header.length - 1);
    await handle.close();
    await expect(opened.read('t0')).rejects.toThrow('the file was changed while it was open');
    await opened.close();
  });

  it('17 a file that is replaced: the reader keeps the old one', async () => {
    await writeFile(path, header);
    const opened = await SafetensorsFile.open(path);
    await rm(path);
    await writeFile(path, 'new');
    expect(await opened.read('t1')).toEqual(new Uint8Array(2000));
    await opened.close();
  });

  it('18 an error in the middle of a read returns nothing', async () => {
    await writeFile(path, header);
    const handle = await open(path, 'r');
    const opened = await SafetensorsFile.fromHandle(handle, path);
    const read = handle.read.bind(handle) as (...args: unknown[]) => Promise<unknown>;
    let calls = 0;
    handle.read = ((buffer: Uint8Array, offset: number, length: number, position: number) => {
      if (++calls > 1) throw Object.assign(new Error('EIO: raw'), { code: 'EIO' });
      return read(buffer, offset, Math.min(length, 100), position);
    }) as typeof handle.read;
    const error = await opened.read('t1').catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'read' });
    expect((error as Error).message).toBe(
      `${path}: cannot read tensor "t1": the disk reports an input/output error (EIO)`,
    );
    expect(calls).toBe(2);
    await opened.close();
  });
});
