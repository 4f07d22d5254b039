import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compressedLayer, numbersOf, tensorsPerExpert } from '../../../test/support/compressed-layer.js';
import {
  SafetensorsError,
  SafetensorsFile,
  saveSafetensors,
  type NamedTensor,
} from '../safetensors/index.js';
import { CompressedFormatError } from './errors.js';
import { COMPRESSED_VERSION, parseCompression } from './header.js';
import { packLayer } from './pack.js';
import { RestoringSource } from './restoring-source.js';

const isLong = process.env['SWITCHYARD_LONG'] === '1';

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-malformed-'));
  path = join(folder, 'model.safetensors');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const layer = compressedLayer(1, {
  centre: true,
  kinds: ['sparse', 'lowRank', 'dense'],
  roles: ['up', 'upBias', 'down'],
  outputBiases: true,
  density: 0.3,
});
const byRows = compressedLayer(2, { name: 'blocks.3', hiddenSize: 40, density: 0.03 });

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
interface Block {
  [key: string]: Json;
  layers: { [key: string]: Json }[];
}

/** A sound block and its tensors, for a test to damage. */
function sound(): { block: Block; tensors: Map<string, NamedTensor> } {
  const packed = [layer, byRows].map((one) => packLayer(one, 'F32', tensorsPerExpert(one)));
  const block = {
    version: COMPRESSED_VERSION,
    method: 'test',
    options: {},
    layers: packed.map(({ header }) => header),
  };
  const tensors = packed.flatMap((one) => one.tensors.map((tensor) => [tensor.name, tensor] as const));
  return { block: JSON.parse(JSON.stringify(block)) as Block, tensors: new Map(tensors) };
}

/** Opens and reads everything. */
async function readAll(block: Json, tensors: ReadonlyMap<string, NamedTensor>): Promise<void> {
  await saveSafetensors(path, tensors.values());
  const header = parseCompression(block, 'config.json');
  const source = await RestoringSource.open(await SafetensorsFile.open(path), header);
  try {
    for (const name of source.tensors.keys()) await source.read(name);
  } finally {
    await source.close();
  }
}

async function refusal(block: Json, tensors: ReadonlyMap<string, NamedTensor>): Promise<string> {
  const error = await readAll(block, tensors).then(
    () => expect.unreachable('it was read'),
    (reason: unknown) => reason as Error,
  );
  expect(error).toBeInstanceOf(CompressedFormatError);
  expect(error.message).not.toContain('\n');
  return error.message;
}

it('reads what is sound', async () => {
  const { block, tensors } = sound();
  await readAll(block, tensors);
});

describe('a block that contradicts itself', () => {
  const cases: readonly (readonly [
    string,
    (layer: { [key: string]: Json }, block: Block) => unknown,
    RegExp,
  ])[] = [
    ['no layers', (_, block) => (block.layers = []), /^config\.json: compression\.layers: /],
    ['a later version', (_, block) => (block['version'] = 2), /compression\.version: /],
    ['an unknown key', (one) => (one['extra'] = 1), /compression\.layers\[0\]: .*extra/],
    [
      'a layer twice',
      (one, block) => (block.layers[1] = { ...one }),
      /layers\[1\]: the layer blocks\.1 is there twice/,
    ],
    ['no size', (one) => (one['hiddenSize'] = 0), /hiddenSize/],
    ['a size that is no number', (one) => (one['intermediateSize'] = 1e300), /intermediateSize/],
    ['a type that floats are not', (one) => (one['dtype'] = 'I8'), /dtype/],
    [
      'roles out of order',
      (one) => (one['roles'] = ['down', 'up']),
      /roles must be different and in the order/,
    ],
    ['a role twice', (one) => (one['roles'] = ['up', 'up', 'down']), /roles must be different/],
    ['no way out', (one) => (one['roles'] = ['gate', 'up']), /roles must have up and down/],
    [
      'an expert that is not stored',
      (one) => (one['expertOf'] = [0, 1, 3]),
      /expertOf\[2\] is 3, but 3 experts are stored/,
    ],
    [
      'a stored expert for nobody',
      (one) => (one['expertOf'] = [0, 1, 1]),
      /stored expert 2 stands for no original/,
    ],
    [
      'more neurons than there were',
      (one) => ((one['experts'] as Json[])[0] = { rows: 8, matrices: ['dense'] }),
      /rows is 8, but the centre has 7/,
    ],
    [
      'fewer neurons beside a centre',
      (one) => ((one['experts'] as Json[])[0] = { rows: 3, matrices: ['dense'] }),
      /rows is 3, but the centre has 7/,
    ],
    [
      'a matrix for two blocks of three',
      (one) => ((one['experts'] as Json[])[0] = { rows: 7, matrices: ['dense', 'dense'] }),
      /matrices must be 1, or 3/,
    ],
    [
      'an expert too large',
      (one) => Object.assign(one, { intermediateSize: 2 ** 24, hiddenSize: 2 ** 20 }),
      /is too large/,
    ],
    ['a part that no tensor holds', (one) => (one['tensors'] as Json[]).pop(), /no tensor holds outputBias/],
    [
      'a part twice',
      (one) =>
        (one['tensors'] as Json[]).push({
          name: 'again.{expert}',
          shape: [7, 5],
          parts: [{ role: 'up', neurons: 'rows' }],
        }),
      /up is there twice/,
    ],
    [
      'a tensor of another shape',
      (one) => ((one['tensors'] as { shape: Json }[])[0].shape = [7, 6]),
      /up should be \[7, 5\], but is \[7, 6\]/,
    ],
  ];
  it.each(cases)('%s', async (_, damage, expected) => {
    const { block, tensors } = sound();
    damage(block.layers[0], block);
    expect(await refusal(block, tensors)).toMatch(expected);
  });
});

describe('tensors that are not what the block promises', () => {
  const first = 'compressed.blocks.1.experts';
  const second = 'compressed.blocks.3.experts';
  const change =
    (name: string, data: (data: NamedTensor['data']) => NamedTensor['data'], shape?: number[]) =>
    (tensors: Map<string, NamedTensor>): void => {
      const tensor = tensors.get(name)!;
      const changed = data(tensor.data.slice());
      tensors.set(name, { ...tensor, data: changed, shape: shape ?? [changed.length] });
    };
  const cases: readonly (readonly [string, (tensors: Map<string, NamedTensor>) => unknown, RegExp])[] = [
    [
      'one is missing',
      (tensors) => tensors.delete('compressed.blocks.1.centre'),
      /tensor "compressed\.blocks\.1\.centre" is missing; config\.json promises F32 \[7, 11\]/,
    ],
    [
      'one too many',
      (tensors) =>
        tensors.set('compressed.x', { ...tensors.get(`${first}.0.0.bitmap`)!, name: 'compressed.x' }),
      /does not know tensor "compressed\.x"/,
    ],
    [
      'an original that is there too',
      (tensors) =>
        tensors.set('blocks.1.experts.0.up', {
          name: 'blocks.1.experts.0.up',
          dtype: 'F32',
          shape: [1],
          data: new Float32Array(1),
        }),
      /"blocks\.1\.experts\.0\.up" is stored, though/,
    ],
    [
      'a short centre',
      change('compressed.blocks.1.centre', (data) => data.subarray(11), [6, 11]),
      /is F32 \[6, 11\], but config\.json promises F32 \[7, 11\]/,
    ],
    [
      'factors of two ranks',
      change(`${first}.1.0.left`, (data) => data.subarray(7), [7, 1]),
      /right" is F32 \[2, 11\], but config\.json promises F32 \[1, 11\]/,
    ],
    [
      'a bit for no value',
      change(`${first}.0.0.bitmap`, (data) => (data as Uint8Array).fill(0xff, 0, 1)),
      /bitmap" marks \d+ places for \d+ values/,
    ],
    [
      'a bit past the end',
      change(`${first}.0.0.bitmap`, (data) => {
        const one = data.findIndex((byte) => byte !== 0);
        data[one] = Number(data[one]) & (Number(data[one]) - 1);
        data[data.length - 1] = Number(data[data.length - 1]) | 0x80;
        return data;
      }),
      /bitmap" marks places past the end of \[7, 11\]/,
    ],
    [
      'rows that fall',
      change(`${second}.0.0.row_starts`, (data) => {
        data[1] = 99;
        return data;
      }),
      /row_starts" must rise from 0 to \d+, but \[\d\] is \d+/,
    ],
    [
      'rows that start late',
      change(`${second}.0.0.row_starts`, (data) => (data as Uint32Array).fill(1, 0, 1)),
      /row_starts" must rise/,
    ],
    [
      'a column that is not there',
      change(`${second}.0.0.columns`, (data) => (data as Uint16Array).fill(120, 0, 1)),
      /columns" must rise within a row and stay below 120, but \[0\] is 120/,
    ],
  ];
  it.each(cases)('%s', async (_, damage, expected) => {
    const { block, tensors } = sound();
    damage(tensors);
    expect(await refusal(block, tensors)).toMatch(expected);
  });
});

/** Replaces one value of a JSON value, anywhere, by something else. */
function mutate(root: Json, random: () => number): void {
  const nodes: [Json[] | { [key: string]: Json }, string | number][] = [];
  const walk = (node: Json): void => {
    if (typeof node !== 'object' || node === null) return;
    for (const key of Object.keys(node)) {
      nodes.push([node as { [key: string]: Json }, key]);
      walk((node as { [key: string]: Json })[key]);
    }
  };
  walk(root);
  const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(((random() + 1) / 2) * items.length)];
  const [owner, key] = pick(nodes);
  const here = owner as { [key: string]: Json };
  const value = here[key as string];
  const numbers = [0, -1, 1, 2, 7, 2 ** 24, 2 ** 31, 2 ** 53, 1e308, 0.5];
  here[key as string] = pick<() => Json>([
    () => pick(numbers),
    () => (typeof value === 'number' ? value + pick([-1, 1]) : null),
    () => pick(['', 'up', 'down', 'sparse', 'blocks.1', '{expert}', '../x', 'F16', '__proto__']),
    () => [],
    () => (Array.isArray(value) ? [...value, ...value] : {}),
    () => (Array.isArray(value) ? value.slice(1) : [value]),
    () => true,
  ])();
}

it('a mutated block is read as it is, or refused in one line (seed 1)', { timeout: 600_000 }, async () => {
  const { block, tensors } = sound();
  await saveSafetensors(path, tensors.values());
  const random = numbersOf(1);
  const before = process.memoryUsage().rss;
  let [read, refused] = [0, 0];
  for (let round = 0; round < (isLong ? 200_000 : 1500); round++) {
    const damaged = structuredClone(block);
    for (let times = 0; times <= round % 3; times++) mutate(damaged, random);
    try {
      const header = parseCompression(damaged, 'config.json');
      const source = await RestoringSource.open(await SafetensorsFile.open(path), header, { cacheBytes: 0 });
      try {
        for (const name of source.tensors.keys()) await source.read(name);
        read++;
      } finally {
        await source.close();
      }
    } catch (error) {
      const isOurs = error instanceof CompressedFormatError || error instanceof SafetensorsError;
      if (!isOurs || error.message.includes('\n'))
        throw new Error(`round ${round}: ${JSON.stringify(damaged)}`, { cause: error });
      refused++;
    }
  }
  expect(refused).toBeGreaterThan(read);
  expect(read).toBeGreaterThan(0);
  expect(process.memoryUsage().rss - before).toBeLessThan(300 << 20);
});
