import { createHash } from 'node:crypto';
import { mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bytesOf, elementsOf, storedDTypes, type NamedTensor, type StoredDType } from './dtypes.js';
import { SafetensorsError } from './errors.js';
import { parseHeader } from './header.js';
import { SafetensorsFile } from './reader.js';
import { saveSafetensors, writeSafetensors } from './writer.js';

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-safetensors-'));
  path = join(folder, 'model.safetensors');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function tensor(name: string, dtype: StoredDType, shape: readonly number[], fill = 1): NamedTensor {
  const { array, bits } = storedDTypes[dtype];
  const bytes = new Uint8Array((elementsOf(shape) * bits) / 8).map((_, i) => (i * 31 + fill) & 255);
  return { name, dtype, shape, data: new array(bytes.buffer) };
}

const tensors: fc.Arbitrary<NamedTensor[]> = fc.uniqueArray(
  fc
    .record({
      name: fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.constantFrom('__proto__', 'constructor', 'layer.0.weight'),
      ),
      dtype: fc.constantFrom(...(Object.keys(storedDTypes) as StoredDType[])),
      shape: fc.array(fc.nat(4), { maxLength: 4 }),
      fill: fc.nat(255),
    })
    .filter(({ name }) => name !== '__metadata__' && !/\p{Surrogate}/u.test(name))
    .map(({ name, dtype, shape, fill }) =>
      // Four elements of 4 or 6 bits end on a byte.
      tensor(name, dtype, storedDTypes[dtype].bits % 8 === 0 ? shape : [...shape, 4], fill),
    ),
  { selector: ({ name }) => name, maxLength: 12 },
);
const metadata = fc.dictionary(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'grapheme' }), {
  maxKeys: 4,
});

describe('round trip', () => {
  it('23 any tensors come back byte for byte, and equal content gives equal files (seed 23)', async () => {
    const run = fc.asyncProperty(tensors, metadata, async (written, texts) => {
      const digest = await saveSafetensors(path, written, { metadata: texts });
      const bytes = await readFile(path);
      expect(digest).toEqual({
        bytes: bytes.length,
        sha256: createHash('sha256').update(bytes).digest('hex'),
      });
      const header = Number(bytes.readBigUInt64LE());
      expect(header % 8).toBe(0);
      const file = await SafetensorsFile.open(path);
      expect(new Map(file.metadata)).toEqual(new Map(Object.entries(texts)));
      expect(new Set(file.tensors.keys())).toEqual(new Set(written.map(({ name }) => name)));
      for (const { name, dtype, shape, data } of written) {
        const entry = file.tensors.get(name)!;
        expect(entry).toMatchObject({ dtype, shape });
        expect(entry.begin % Math.max(1, storedDTypes[dtype].bits / 8)).toBe(0);
        expect(bytesOf(await file.read(name))).toEqual(bytesOf(data));
      }
      const again = [];
      for (const { name, dtype, shape } of file.tensors.values())
        again.push({ name, dtype, shape, data: await file.read(name) });
      await file.close();
      await saveSafetensors(path, again.reverse(), { metadata: new Map(Object.entries(texts).reverse()) });
      expect((await readFile(path)).equals(bytes)).toBe(true);
    });
    await fc.assert(run, { seed: 23, numRuns: 150 });
  });

  it('23 any changed byte of a header has the same meaning or our error (seed 23)', () => {
    const meaning = (bytes: Uint8Array): unknown => {
      const header = parseHeader(bytes.subarray(8), 232, 'f');
      return { metadata: [...header.metadata], tensors: [...header.tensors.values()] };
    };
    const content = [
      tensor('layer.0.weight', 'F32', [5, 8]),
      tensor('é\n"', 'BF16', [4]),
      tensor('__proto__', 'F64', [8]),
    ];
    const reference = { bytes: 0, refused: 0, changed: 0 };
    return (async () => {
      await saveSafetensors(path, content, { metadata: { format: 'pt', note: 'a\u0001b' } });
      const whole = await readFile(path);
      const head = whole.subarray(0, 8 + Number(whole.readBigUInt64LE()));
      expect(whole.length - head.length).toBe(232);
      const before = JSON.stringify(meaning(head));
      // All 256 values of every byte: more than a sample.
      for (let at = 8; at < head.length; at++) {
        const mutated = Buffer.from(head);
        for (let value = 0; value < 256; value++) {
          mutated[at] = value;
          reference.bytes++;
          try {
            if (JSON.stringify(meaning(mutated)) !== before) reference.changed++;
          } catch (error) {
            if (!(error instanceof SafetensorsError)) throw error;
            reference.refused++;
          }
        }
      }
      expect(reference.bytes).toBe((head.length - 8) * 256);
      // Names, texts, and types of one width (F32, I32, U32) can change without a contradiction; sizes cannot.
      expect(reference.refused / reference.bytes).toBeGreaterThan(0.4);
    })();
  });

  it('23 any damage to a file is our error or a sound file (seed 23)', async () => {
    const run = fc.asyncProperty(
      tensors,
      fc.array(fc.tuple(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), fc.nat(255)), {
        minLength: 1,
        maxLength: 4,
      }),
      fc.double({ min: 0, max: 1.2, noNaN: true }),
      async (written, changes, cut) => {
        await saveSafetensors(path, written);
        const bytes = await readFile(path);
        for (const [where, value] of changes) bytes[Math.floor(where * Math.min(bytes.length, 400))] = value;
        await writeFile(path, bytes.subarray(0, Math.floor(cut * bytes.length)));
        try {
          const file = await SafetensorsFile.open(path);
          for (const name of file.tensors.keys()) await file.read(name);
          await file.close();
        } catch (error) {
          expect(error).toBeInstanceOf(SafetensorsError);
        }
      },
    );
    await fc.assert(run, { seed: 23, numRuns: 300 });
  });
});

describe('reader', () => {
  it('reads rows, into a view of a larger array', async () => {
    const bank = {
      name: 'experts',
      dtype: 'F32',
      shape: [4, 2, 3],
      data: Float32Array.from({ length: 24 }, (_, i) => i),
    } as const;
    await saveSafetensors(path, [bank, tensor('packed', 'F4', [3, 2])]);
    const file = await SafetensorsFile.open(path);
    const flat = new Float32Array(14);
    await file.read('experts', { rows: [1, 3], into: flat.subarray(1, 13) });
    expect([...flat]).toEqual([0, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 0]);
    expect(await file.read('experts', { rows: [4, 4] })).toEqual(new Float32Array(0));
    expect((await file.read('packed', { rows: [1, 3] })).length).toBe(2);
    for (const rows of [
      [0, 5],
      [2, 1],
      [-1, 2],
      [0, 0.5],
    ] as const)
      await expect(file.read('experts', { rows })).rejects.toMatchObject({ code: 'target' });
    await file.close();
  });

  it('refuses an array of the wrong length or kind, saying what would be right', async () => {
    await saveSafetensors(path, [tensor('w', 'F32', [3])]);
    const file = await SafetensorsFile.open(path);
    await expect(file.read('w', { into: new Float32Array(4) })).rejects.toThrow(
      'tensor "w" takes a Float32Array of 3 elements, not a Float32Array of 4',
    );
    await expect(file.read('w', { into: new Int32Array(3) })).rejects.toMatchObject({ code: 'target' });
    await expect(file.read('v')).rejects.toThrow(`${path}: there is no tensor "v"`);
    await file.close();
  });

  it.each([2 ** 31, 2 ** 32].map((size) => [size / 2 ** 30]))(
    '16 a sparse file of more than %i GiB opens, and one tensor is read by range',
    async (gib) => {
      const large = gib * 2 ** 30;
      const json = Buffer.from(
        JSON.stringify({
          large: { dtype: 'U8', shape: [large], data_offsets: [0, large] },
          last: { dtype: 'I32', shape: [2], data_offsets: [large, large + 8] },
        }),
      );
      const head = Buffer.alloc(8);
      head.writeBigUInt64LE(BigInt(json.length));
      const handle = await open(path, 'w');
      await handle.write(Buffer.concat([head, json]), 0, 8 + json.length, 0);
      await handle.write(Buffer.from(Int32Array.of(7, -7).buffer), 0, 8, 8 + json.length + large);
      await handle.close();
      const file = await SafetensorsFile.open(path);
      expect(await file.read('last')).toEqual(Int32Array.of(7, -7));
      expect((await file.read('large', { rows: [large - 4, large] })).length).toBe(4);
      await file.close();
    },
  );

  it('16 a tensor larger than a typed array is our error', async () => {
    const size = 2 ** 40;
    const json = Buffer.from(
      JSON.stringify({ w: { dtype: 'F32', shape: [size / 4], data_offsets: [0, size] } }),
    );
    const head = Buffer.alloc(8);
    head.writeBigUInt64LE(BigInt(json.length));
    await writeFile(path, Buffer.concat([head, json]));
    const handle = await open(path, 'r+');
    await handle.truncate(8 + json.length + size);
    await handle.close();
    const file = await SafetensorsFile.open(path);
    await expect(file.read('w')).rejects.toMatchObject({ code: 'memory' });
    await file.close();
    await rm(path);
  });
});

describe('writer', () => {
  it('lays a file out as the reference implementation does', async () => {
    // Bytes of safetensors 0.8.0 (Python), save({'b': f32 [1], 'a': f32 [1], 'z': i64 [1], 'h': f16 [1]}, {'k': 'v'}).
    await saveSafetensors(
      path,
      [
        { name: 'b', dtype: 'F32', shape: [1], data: Float32Array.of(2) },
        { name: 'a', dtype: 'F32', shape: [1], data: Float32Array.of(1) },
        { name: 'z', dtype: 'I64', shape: [1], data: BigInt64Array.of(-1n) },
        { name: 'h', dtype: 'F16', shape: [1], data: Uint16Array.of(0x3c00) },
      ],
      { metadata: { k: 'v' } },
    );
    expect((await readFile(path)).toString('latin1')).toBe(
      '\xf8\0\0\0\0\0\0\0{"__metadata__":{"k":"v"},"z":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},' +
        '"a":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]},' +
        '"h":{"dtype":"F16","shape":[1],"data_offsets":[16,18]}}     ' +
        '\xff\xff\xff\xff\xff\xff\xff\xff\0\0\x80?\0\0\0@\0<',
    );
  });

  it.each([
    ['data of another length', { name: 'w', dtype: 'F32', shape: [3], data: new Float32Array(2) }],
    ['another array', { name: 'w', dtype: 'F32', shape: [2], data: new Int32Array(2) }],
    ['a negative size', { name: 'w', dtype: 'F32', shape: [-1], data: new Float32Array(1) }],
    ['the name of the metadata', { name: '__metadata__', dtype: 'U8', shape: [0], data: new Uint8Array(0) }],
    ['half a surrogate pair', { name: '\ud800', dtype: 'U8', shape: [0], data: new Uint8Array(0) }],
    ['a taken name', tensor('taken', 'U8', [1])],
  ] as const)('refuses %s before a byte is written', async (_, wrong) => {
    await rm(path, { force: true });
    const error = await saveSafetensors(path, [tensor('taken', 'F32', [1]), wrong]).catch((e: unknown) => e);
    expect(error).toMatchObject({ name: 'SafetensorsError', code: 'tensor' });
    await expect(stat(path)).rejects.toThrow('ENOENT');
  });

  it('a failed write names the file and leaves nothing', async () => {
    const error = await saveSafetensors(join(folder, 'no', 'x.safetensors'), []).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'write' });
    const handle = await open(path, 'w');
    await handle.close();
    await expect(writeSafetensors(handle, [], { file: 'x' })).rejects.toThrow(/^x: cannot write: /);
  });

  it('saving over a file that is being read leaves the reader its data', async () => {
    await saveSafetensors(path, [tensor('w', 'U8', [100], 3)]);
    const file = await SafetensorsFile.open(path);
    await saveSafetensors(path, [tensor('w', 'U8', [50], 9)]);
    expect(await file.read('w')).toEqual(tensor('w', 'U8', [100], 3).data);
    await file.close();
  });

  it('streams large and small tensors in pieces of bounded size', async () => {
    const flat = new Float32Array(6 << 20).map((_, i) => i);
    const sizes = [3, 70_000, 1, 5 << 20, 65_536, 65_535, 100];
    let at = 0;
    const parts = sizes.map((size, i) => ({
      name: `t${i}`,
      dtype: 'F32' as const,
      shape: [size],
      data: flat.subarray(at, (at += size)),
    }));
    const lengths: number[] = [];
    const handle = await open(path, 'w');
    const write = handle.write.bind(handle) as (...args: unknown[]) => Promise<{ bytesWritten: number }>;
    handle.write = ((buffer: Uint8Array, offset: number, length: number, position: number) => {
      lengths.push(length);
      // A system may write less than it was asked to.
      return write(buffer, offset, Math.min(length, 1_000_003), position);
    }) as typeof handle.write;
    const digest = await writeSafetensors(handle, parts);
    await handle.close();
    expect(Math.max(...lengths)).toBeLessThanOrEqual(4 << 20);
    expect(digest.sha256).toBe(
      createHash('sha256')
        .update(await readFile(path))
        .digest('hex'),
    );
    const file = await SafetensorsFile.open(path);
    for (const { name, data } of parts)
      expect(Buffer.compare(bytesOf(await file.read(name)), bytesOf(data))).toBe(0);
    await file.close();
  });
});
