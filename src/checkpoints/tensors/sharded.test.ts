import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { saveSafetensors, SafetensorsError, type SafetensorsErrorCode } from '../safetensors/index.js';
import { openTensors, type TensorSource } from './index.js';
import { INDEX_FILE, parseShardIndex } from './shard-index.js';

const made: string[] = [];
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-sharded-'));
  made.push(folder);
});
afterAll(async () => {
  for (const path of made) await rm(path, { recursive: true, force: true });
});

const [ONE, TWO] = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];

/** A shard with tensors of four numbers each. */
async function shard(name: string, ...tensors: readonly string[]): Promise<void> {
  const data = (tensor: string): Float32Array => new Float32Array(4).fill(tensor.charCodeAt(0));
  await saveSafetensors(
    join(folder, name),
    tensors.map((tensor) => ({ name: tensor, dtype: 'F32', shape: [4], data: data(tensor) })),
  );
}

async function index(map: Readonly<Record<string, string>>, totalSize: unknown = 48): Promise<void> {
  const value = { metadata: { total_size: totalSize }, weight_map: map };
  await writeFile(join(folder, INDEX_FILE), JSON.stringify(value));
}

async function sound(): Promise<void> {
  await shard(ONE, 'a', 'b');
  await shard(TWO, 'c');
  await index({ a: ONE, b: ONE, c: TWO });
}

async function refusal(path = folder): Promise<SafetensorsError> {
  const opened = await openTensors(path).catch((error: unknown) => error);
  if (!(opened instanceof SafetensorsError)) await (opened as TensorSource).close?.();
  expect(opened).toBeInstanceOf(SafetensorsError);
  const error = opened as SafetensorsError;
  expect(error.message).not.toMatch(/[\n\r\0]/);
  expect(error.message.length).toBeLessThan(1000);
  return error;
}

describe('19 shards and their index', () => {
  it('open as one source, which reads by range', async () => {
    await sound();
    const source = await openTensors(folder);
    expect([...source.tensors.values()]).toMatchObject(
      ['a', 'b', 'c'].map((name) => ({ name, dtype: 'F32', shape: [4] })),
    );
    expect(await source.read('c')).toEqual(new Float32Array(4).fill(99));
    expect((await source.read('b', { rows: [1, 3] })).length).toBe(2);
    await expect(source.read('d')).rejects.toThrow(`${folder}: there is no tensor "d"`);
    await source.close();
  });

  it('open where the index knows more of itself than we use, and says no size', async () => {
    await sound();
    const text = `{"weight_map":{"a":"${ONE}","b":"${ONE}","c":"${TWO}"},"metadata":{"total_parameters":12,"x":null,"y":-1.5e3,"z":"t","w":true}}`;
    await writeFile(join(folder, INDEX_FILE), text);
    await (await openTensors(folder)).close();
  });

  const cases: readonly (readonly [string, SafetensorsErrorCode, RegExp, () => Promise<void>])[] = [
    [
      'missing shard',
      'shard',
      /the shard "model-00002-of-00002\.safetensors" cannot be opened: there is no such file/,
      () => rm(join(folder, TWO)),
    ],
    [
      'damaged shard',
      'file-size',
      /00002-of-00002\.safetensors: the file is 1 bytes too short/,
      () => cut(TWO),
    ],
    [
      'extra tensor in a shard',
      'shard',
      /"model-00002-of-00002\.safetensors" holds "d", which the index does not list/,
      () => shard(TWO, 'c', 'd'),
    ],
    [
      'tensor in two shards',
      'shard',
      /"model-00002.*" holds "a", which the index places in "model-00001/,
      () => shard(TWO, 'c', 'a'),
    ],
    [
      'tensor in none',
      'shard',
      /"model-00001.*" does not hold "d", which the index places there/,
      () => index({ a: ONE, b: ONE, c: TWO, d: ONE }),
    ],
    [
      'many that are wrong',
      'shard',
      /^(?:.* does not hold ){5}.*; and more$/,
      () => index({ ...Object.fromEntries([...'abdefghij'].map((name) => [name, ONE])), c: TWO }),
    ],
    ['total_size too small', 'index', /total_size is 47, but .* take 48 bytes/, () => index(standard, 47)],
    ['total_size no whole number', 'index', /whole number of bytes, not "48.5"/, () => index(standard, 48.5)],
    ['total_size a string', 'index', /whole number of bytes/, () => index(standard, '48')],
    ['total_size negative', 'index', /whole number of bytes/, () => index(standard, -48)],
    ['total_size above 2^53', 'index', /whole number of bytes/, () => index(standard, 1e300)],
    ...[
      '../model.safetensors',
      '/etc/model.safetensors',
      'deeper/model.safetensors',
      'https://example.org/model.safetensors',
      'C:\\model.safetensors',
      '..\\model.safetensors',
      'file:model.safetensors',
      '.safetensors',
      '..safetensors',
      '.hidden.safetensors',
      '',
      'config.json',
      'model\0.safetensors',
      'model\n.safetensors',
      `${'m'.repeat(300)}.safetensors`,
    ].map(
      (name) =>
        [
          `shard called ${JSON.stringify(name).slice(0, 50)}`,
          'shard',
          /weight_map "a" names the shard .* which is not the name of a \.safetensors file in this folder/,
          () => index({ a: name, b: ONE, c: TWO }),
        ] as const,
    ),
    [
      'shard names that differ in case',
      'shard',
      /the shards "model-00001-of-00002\.safetensors" and "MODEL-00001-of-00002\.safetensors" are one file/,
      () => index({ a: ONE, b: ONE.replace('model', 'MODEL'), c: TWO }),
    ],
    [
      'shard names that differ in normalisation',
      'shard',
      /are one file where case does not count/,
      () => index({ a: 'é.safetensors', b: 'e\u0301.safetensors', c: TWO }),
    ],
    [
      'link out of the folder',
      'shard',
      /"model-00002.*" is a link that leads out of the folder/,
      async () => {
        const outside = await mkdtemp(join(tmpdir(), 'switchyard-outside-'));
        made.push(outside);
        await writeFile(join(outside, 'c'), await readFile(join(folder, TWO)));
        await rm(join(folder, TWO));
        await symlink(join(outside, 'c'), join(folder, TWO));
      },
    ],
    [
      'link to nothing',
      'shard',
      /cannot be opened: there is no such file/,
      async () => {
        await rm(join(folder, TWO));
        await symlink('nowhere', join(folder, TWO));
      },
    ],
    [
      'folder in place of a shard',
      'open',
      /00002\.safetensors: is not a regular file/,
      async () => {
        await rm(join(folder, TWO));
        await mkdir(join(folder, TWO));
      },
    ],
    [
      'tensor listed twice',
      'duplicate',
      /weight_map has the key "a" twice/,
      () => text(`{"weight_map":{"a":"${ONE}","a":"${TWO}"}}`),
    ],
    [
      'weight_map twice',
      'duplicate',
      /key "weight_map" twice/,
      () => text('{"weight_map":{},"weight_map":{}}'),
    ],
    ['no weight_map', 'index', /has no weight_map/, () => text('{"metadata":{}}')],
    ['unknown key', 'index', /unknown key "weights"/, () => text('{"weights":{}}')],
    ['shard no string', 'index', /weight_map "a" must be a string/, () => text('{"weight_map":{"a":1}}')],
    ['not JSON', 'index', /the index is not JSON: .*\(index byte /, () => text('{"weight_map":{"a"}}')],
    ['list at the root', 'index', /the index must be an object/, () => text('[]')],
    [
      'nested metadata',
      'index',
      /metadata "a" must be a string, a number/,
      () => text('{"metadata":{"a":{}}}'),
    ],
    ['word in metadata', 'index', /metadata "a" must be/, () => text('{"metadata":{"a":nul}}')],
    ['not UTF-8', 'utf8', /not UTF-8/, () => writeFile(join(folder, INDEX_FILE), Buffer.from([0x7b, 0xff]))],
    ['empty', 'index', /the index must be an object/, () => text('')],
  ];
  const standard = { a: ONE, b: ONE, c: TWO };
  const text = (content: string): Promise<void> => writeFile(join(folder, INDEX_FILE), content);
  const cut = async (name: string): Promise<void> => {
    const bytes = await readFile(join(folder, name));
    await writeFile(join(folder, name), bytes.subarray(0, -1));
  };

  it.each(cases)('%s: refused', async (_, code, message, damage) => {
    await sound();
    await damage();
    const error = await refusal();
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
    expect(error.message.startsWith(folder)).toBe(true);
  });

  it('links within the folder, and those of a Hugging Face cache, are followed', async () => {
    await sound();
    const cache = join(folder, 'cache');
    const snapshot = join(cache, 'snapshots', '0a1b');
    await mkdir(join(cache, 'blobs'), { recursive: true });
    await mkdir(snapshot, { recursive: true });
    for (const name of [ONE, TWO, INDEX_FILE]) {
      await writeFile(join(cache, 'blobs', `blob-${name}`), await readFile(join(folder, name)));
      await symlink(`../../blobs/blob-${name}`, join(snapshot, name));
    }
    const source = await openTensors(snapshot);
    expect(await source.read('c')).toEqual(new Float32Array(4).fill(99));
    await source.close();
    await rm(join(snapshot, TWO));
    await symlink(join(folder, TWO), join(snapshot, TWO));
    expect((await refusal(snapshot)).code).toBe('shard');
  });

  it('a folder with both forms, with neither, and none at all', async () => {
    await sound();
    await shard('model.safetensors', 'a');
    expect((await refusal()).message).toContain(
      'holds both model.safetensors and model.safetensors.index.json',
    );
    await rm(join(folder, INDEX_FILE));
    await (await openTensors(folder)).close();
    await (await openTensors(join(folder, ONE))).close();
    await rm(join(folder, 'model.safetensors'));
    expect((await refusal()).message).toContain('holds neither model.safetensors nor');
    expect((await refusal(join(folder, 'none'))).code).toBe('open');
  });

  it.each(['pytorch_model.bin', 'pytorch_model.bin.index.json'])(
    '%s is refused, with a way out',
    async (name) => {
      await writeFile(join(folder, name), 'pickle');
      const { message } = await refusal();
      expect(message).toContain(`holds ${name}, a PyTorch pickle, which could run any code; convert it`);
      expect(message).toContain(`.save_pretrained('${folder}-safetensors')"`);
      expect(message).not.toContain('\n');
    },
  );

  it('an index of a million tensors takes bounded time and memory', () => {
    const lines = Array.from(
      { length: 1e6 },
      (_, i) => `"model.layers.${i}.weight":"model-${i % 100}.safetensors"`,
    );
    const json = Buffer.from(`{"metadata":{"total_size":0},"weight_map":{${lines.join()}}}`);
    const started = process.cpuUsage();
    const before = process.memoryUsage();
    const { shardOf, shards } = parseShardIndex(json, 'index');
    const after = process.memoryUsage();
    expect([shardOf.size, shards.length]).toEqual([1e6, 100]);
    const { user, system } = process.cpuUsage(started);
    expect((user + system) / 1000).toBeLessThan(8_000);
    const grown = after.heapUsed + after.external - before.heapUsed - before.external;
    expect(grown).toBeLessThan(600e6);
  });

  it('more shards than anyone has are refused', () => {
    const lines = Array.from({ length: 10_001 }, (_, i) => `"t${i}":"s${i}.safetensors"`);
    const json = Buffer.from(`{"weight_map":{${lines.join()}}}`);
    expect(() => parseShardIndex(json, 'index')).toThrow('index: the index has more than 10000 shards');
  });
});
