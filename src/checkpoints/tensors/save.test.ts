import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { createFolder } from '../atomic-folder.js';
import { saveSafetensors, type PlannedTensor } from '../safetensors/index.js';
import { openTensors, saveTensors, type SaveProgress } from './index.js';

const made: string[] = [];
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-save-'));
  made.push(folder);
});
afterAll(async () => {
  for (const path of made) await rm(path, { recursive: true, force: true });
});

/** A tensor of bytes that notes when it was asked for. */
function planned(name: string, bytes: number, asked: string[] = []): PlannedTensor {
  return {
    name,
    dtype: 'U8',
    shape: [bytes],
    data: async () => {
      asked.push(name);
      return new Uint8Array(bytes).fill(name.charCodeAt(0));
    },
  };
}

describe('one file', () => {
  it('has the bytes of the plain writer', async () => {
    await saveTensors(folder, [planned('b', 3), planned('a', 5)]);
    const plain = join(folder, 'plain.safetensors');
    await saveSafetensors(
      plain,
      [
        { name: 'a', dtype: 'U8', shape: [5], data: new Uint8Array(5).fill(97) },
        { name: 'b', dtype: 'U8', shape: [3], data: new Uint8Array(3).fill(98) },
      ],
      { metadata: { format: 'pt' } },
    );
    expect(await readFile(join(folder, 'model.safetensors'))).toEqual(await readFile(plain));
    expect((await readdir(folder)).sort()).toEqual(['model.safetensors', 'plain.safetensors']);
  });

  it('of nothing is a file of no tensors', async () => {
    await saveTensors(folder, []);
    const source = await openTensors(folder);
    expect(source.tensors.size).toBe(0);
    await source.close();
  });
});

describe('shards', () => {
  const five = (asked?: string[]): PlannedTensor[] =>
    [...'ecabd'].map((name, i) => planned(name, [40, 60, 50, 150, 1][i], asked));

  it('hold the tensors in the order given, each asked for once; the index is that of transformers', async () => {
    const asked: string[] = [];
    const progress: SaveProgress[] = [];
    await saveTensors(folder, five(asked), { maxShardBytes: 100, onProgress: (now) => progress.push(now) });
    const shard = (n: number): string => `model-0000${n}-of-00004.safetensors`;
    expect((await readdir(folder)).sort()).toEqual([
      ...[1, 2, 3, 4].map(shard),
      'model.safetensors.index.json',
    ]);
    expect(await readFile(join(folder, 'model.safetensors.index.json'), 'utf8')).toBe(
      `{\n  "metadata": {\n    "total_size": 301\n  },\n  "weight_map": {\n    "a": "${shard(2)}",\n` +
        `    "b": "${shard(3)}",\n    "c": "${shard(1)}",\n    "d": "${shard(4)}",\n    "e": "${shard(1)}"\n  }\n}\n`,
    );
    // In a file the reference implementation sorts by name.
    expect(asked).toEqual(['c', 'e', 'a', 'b', 'd']);
    expect(progress.map(({ bytes, shard: at }) => [bytes, at])).toEqual([
      [60, 1],
      [100, 1],
      [150, 2],
      [300, 3],
      [301, 4],
    ]);
    expect(progress[0]).toMatchObject({ totalBytes: 301, numShards: 4 });
    const source = await openTensors(folder);
    for (const name of 'abcde')
      expect(new Set((await source.read(name)) as Uint8Array)).toEqual(new Set([name.charCodeAt(0)]));
    await source.close();
  });

  it('of any names come back', async () => {
    const names = ['__proto__', 'a"\\\n', '\ud83d\ude00', 'constructor', ''];
    await saveTensors(
      folder,
      names.map((name) => planned(name, 8)),
      { maxShardBytes: 8 },
    );
    const source = await openTensors(folder);
    expect([...source.tensors.keys()].sort()).toEqual([...names].sort());
    await source.close();
  });
});

describe('a save that fails leaves nothing', () => {
  const failing: readonly (readonly [string, object, string | RegExp, readonly PlannedTensor[]])[] = [
    [
      'a name twice',
      { code: 'tensor' },
      'the name "a" is taken',
      [planned('a', 60), planned('b', 60), planned('a', 1)],
    ],
    [
      'data of another length',
      { code: 'tensor' },
      /00002-of-00002.safetensors: tensor "b" has 1 bytes, but U8 \[60\] takes 60/,
      [planned('a', 60), { ...planned('b', 60), data: () => new Uint8Array(1) }],
    ],
    [
      'data of another type',
      { code: 'tensor' },
      'tensor "b" is U8, which is held by a Uint8Array, not a Int8Array',
      [planned('a', 60), { ...planned('b', 60), data: () => new Int8Array(60) }],
    ],
    [
      'data that cannot be had',
      { name: 'Error' },
      'the source is gone',
      [
        planned('a', 60),
        { ...planned('b', 60), data: () => Promise.reject(new Error('the source is gone')) },
      ],
    ],
    [
      'a shape that no tensor has',
      { code: 'tensor' },
      'tensor "b" cannot be U8 [-1]',
      [{ ...planned('b', 1), shape: [-1] }],
    ],
    [
      'half a byte',
      { code: 'tensor' },
      'tensor "b" cannot be F4 [3]',
      [{ ...planned('b', 1), dtype: 'F4', shape: [3] }],
    ],
  ];

  it.each(failing)('%s', async (_, properties, message, tensors) => {
    const error = await saveTensors(folder, tensors, { maxShardBytes: 100 }).catch((e: unknown) => e);
    expect(error).toMatchObject(properties);
    expect((error as Error).message).toMatch(message);
    expect(await readdir(folder)).toEqual([]);
  });

  it('where a checkpoint is already: refused, the old one untouched', async () => {
    for (const name of ['model.safetensors', 'model.safetensors.index.json']) {
      const path = join(folder, name);
      await writeFile(path, 'old');
      await expect(saveTensors(folder, [planned('a', 1)])).rejects.toMatchObject({
        code: 'exists',
        message: `${path}: is there already; nothing is overwritten`,
      });
      expect(await readFile(path, 'utf8')).toBe('old');
      await rm(path);
    }
  });

  it('where there is no folder', async () => {
    await expect(saveTensors(join(folder, 'none'), [planned('a', 1)])).rejects.toMatchObject({
      code: 'write',
      message: expect.stringMatching(/none: cannot write: there is no such file or folder \(ENOENT\)$/),
    });
  });

  it('shards of no bytes', async () => {
    await expect(saveTensors(folder, [], { maxShardBytes: 0 })).rejects.toThrow(
      'maxShardBytes must be above 0',
    );
  });
});

describe('a folder that is created', () => {
  it('appears with everything in it', async () => {
    const path = join(folder, 'deep', 'model');
    await createFolder(path, async (temporary) => {
      await writeFile(join(temporary, 'config.json'), '{}');
      expect(await readdir(join(folder, 'deep'))).toHaveLength(1);
      await saveTensors(temporary, [planned('a', 1)]);
    });
    expect((await readdir(path)).sort()).toEqual(['config.json', 'model.safetensors']);
    expect(await readdir(join(folder, 'deep'))).toEqual(['model']);
  });

  it('takes the place of an empty one, but not of a full one or a file', async () => {
    const path = join(folder, 'model');
    await mkdir(path);
    await createFolder(`${path}/`, (temporary) => writeFile(join(temporary, 'a'), 'new'));
    const never = (): never => expect.fail('nothing may be written');
    await expect(createFolder(path, never)).rejects.toThrow(`${path}: the folder is not empty`);
    await expect(createFolder(join(path, 'a'), never)).rejects.toThrow('a: is a file; name a folder');
    expect(await readFile(join(path, 'a'), 'utf8')).toBe('new');
  });

  it('is not there after a failure, which says what it was', async () => {
    const path = join(folder, 'model');
    await expect(
      createFolder(path, async (temporary) => {
        await writeFile(join(temporary, 'a'), 'half');
        throw new Error('the source is gone');
      }),
    ).rejects.toThrow('the source is gone');
    await expect(
      createFolder(path, (temporary) => writeFile(join(temporary, 'no', 'a'), 'half')),
    ).rejects.toThrow(
      /model: cannot write: there is no such file or folder \(ENOENT\); nothing was left behind/,
    );
    expect(await readdir(folder)).toEqual([]);
  });
});
