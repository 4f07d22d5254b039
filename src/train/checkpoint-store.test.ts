import { existsSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import {
  appendFile,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { NamedTensor } from '../checkpoints/index.js';
import { CheckpointError } from './checkpoint-error.js';
import { checkpointFiles, MANIFEST } from './checkpoint-manifest.js';
import { saveStages, type CheckpointContents, type SaveStage } from './checkpoint-save.js';
import { CheckpointStore, type CheckpointStoreOptions } from './checkpoint-store.js';

let folder: string;
beforeEach(async () => {
  folder = join(await mkdtemp(join(tmpdir(), 'switchyard-store-')), 'checkpoints');
});
afterEach(() => rm(join(folder, '..'), { recursive: true, force: true }));

/** Named views into one flat array, as a trainer has them. */
function views(value: number, names: Readonly<Record<string, readonly number[]>>): NamedTensor[] {
  const sizes = Object.values(names).map((shape) => shape.reduce((a, b) => a * b, 1));
  const flat = new Float32Array(sizes.reduce((a, b) => a + b, 0)).map((_, i) => value + i / 16);
  let at = 0;
  return Object.entries(names).map(([name, shape], i) => ({
    name,
    dtype: 'F32' as const,
    shape,
    data: flat.subarray(at, (at += sizes[i])),
  }));
}
const modelShapes = { 'block.0.weight': [4, 8], 'block.0.bias': [8], scale: [] };
const optimizerShapes = { 'first.block.0.weight': [4, 8], 'second.block.0.weight': [4, 8] };
const contents = (step: number): CheckpointContents => ({
  model: views(step, modelShapes),
  optimizer: views(-step, optimizerShapes),
  state: { step, random: [1, 2], nested: { name: 'x' } },
});
const target = (): { model: NamedTensor[]; optimizer: NamedTensor[] } => ({
  model: views(0, modelShapes),
  optimizer: views(0, optimizerShapes),
});
const store = (options?: CheckpointStoreOptions): CheckpointStore => new CheckpointStore(folder, options);
const steps = async (of = store()): Promise<number[]> => (await of.list()).map((info) => info.step);
const names = async (): Promise<string[]> => (await readdir(folder)).sort();

/** `toEqual` takes seconds for a million numbers. */
function expectSameBytes(a: NamedTensor, b: NamedTensor): void {
  expect(Buffer.compare(new Uint8Array(a.data.buffer), new Uint8Array(b.data.buffer))).toBe(0);
}

describe('save and load', () => {
  it('brings every array and the state back', async () => {
    await store().save(100, contents(100), { metrics: { loss: 2.5, broken: NaN } });
    expect(await names()).toEqual(['latest', 'step-000100']);
    expect((await readdir(join(folder, 'step-000100'))).sort()).toEqual(
      [MANIFEST, ...checkpointFiles].sort(),
    );
    expect(await readFile(join(folder, 'latest'), 'utf8')).toBe('step-000100\n');
    const into = target();
    const loaded = await store().load('latest', into);
    expect(loaded).toEqual({ step: 100, state: contents(100).state, metrics: { loss: 2.5 } });
    expect(into.model).toEqual(contents(100).model);
    expect(into.optimizer).toEqual(contents(100).optimizer);
  });

  it('gives the same bytes for the same content', async () => {
    const other = new CheckpointStore(join(folder, '..', 'other'));
    await store().save(7, contents(7));
    await other.save(7, { ...contents(7), model: [...contents(7).model].reverse() });
    for (const file of [MANIFEST, ...checkpointFiles]) {
      const [a, b] = await Promise.all(
        [folder, other.folder].map((f) => readFile(join(f, 'step-000007', file))),
      );
      expect(a.equals(b)).toBe(true);
    }
  });

  it('reads the weights alone when no optimiser is given', async () => {
    await store().save(1, contents(1));
    const { model } = target();
    await store().load(1, { model });
    expect(model).toEqual(contents(1).model);
  });

  it('never overwrites a step', async () => {
    await store().save(5, contents(5));
    const before = await readFile(join(folder, 'step-000005', 'model.safetensors'));
    await expect(store().save(5, contents(6))).rejects.toMatchObject({ code: 'exists' });
    expect(await readFile(join(folder, 'step-000005', 'model.safetensors'))).toEqual(before);
  });

  it('lists every tensor that does not fit and touches none', async () => {
    await store().save(1, contents(1));
    const { model, optimizer } = target();
    const odd = views(9, { 'block.0.weight': [8, 4], 'block.0.bias': [8], extra: [2] });
    const error = await store()
      .load(1, { model: odd, optimizer })
      .catch((e: unknown) => e as CheckpointError);
    expect(error).toMatchObject({ code: 'mismatch', file: 'model.safetensors' });
    const { message } = error as CheckpointError;
    expect(message).toContain('has "block.0.weight" as F32 [4, 8] instead of F32 [8, 4]');
    expect(message).toContain('lacks "extra" F32 [2]');
    expect(message).toContain('has "scale" F32 [], which is not expected');
    expect(message).not.toContain('\n');
    expect(odd).toEqual(views(9, { 'block.0.weight': [8, 4], 'block.0.bias': [8], extra: [2] }));
    // The optimiser does not fit: the weights, which do, stay untouched as well.
    await expect(store().load(1, { model, optimizer: optimizer.slice(1) })).rejects.toMatchObject({
      code: 'mismatch',
      file: 'optimizer.safetensors',
    });
    expect(model).toEqual(target().model);
    await expect(store().loadLatestUsable({ model: odd })).rejects.toMatchObject({ code: 'mismatch' });
  });

  it('refuses a state that JSON would change, and says where', async () => {
    const state = { data: { loss: NaN } };
    await expect(store().save(1, { ...contents(1), state })).rejects.toThrow(
      'data.loss is NaN, which JSON cannot hold',
    );
    expect(await steps()).toEqual([]);
  });

  it('says which steps there are when one is absent', async () => {
    await expect(store().load('latest', target())).rejects.toMatchObject({ code: 'absent' });
    expect(await store().loadLatestUsable(target())).toBeUndefined();
    await store().save(3, contents(3));
    await expect(store().load(4, target())).rejects.toThrow('there are 3');
  });
});

describe('damage', () => {
  const damages: Record<string, (path: string) => Promise<unknown>> = {
    truncated: async (path) => truncate(path, (await readFile(path)).length - 1),
    emptied: (path) => truncate(path, 0),
    lengthened: (path) => appendFile(path, '\n'),
    deleted: (path) => rm(path),
    renamed: (path) => rename(path, `${path}.bak`),
    'replaced by a folder': async (path) => {
      await rm(path);
      await mkdir(path);
    },
  };
  for (const file of [...checkpointFiles, MANIFEST]) {
    for (const [what, damage] of Object.entries(damages)) {
      it(`${what} ${file}: refused by name, and passed over with a warning`, async () => {
        await store().save(1, contents(1));
        await store().save(2, contents(2));
        await damage(join(folder, 'step-000002', file));
        const into = target();
        await expect(store().load('latest', into)).rejects.toMatchObject({ code: 'corrupt', file });
        await expect(store().verify(2)).rejects.toThrow(join(folder, 'step-000002', file));
        expect(into).toEqual(target());
        const usable = await store().loadLatestUsable(into);
        expect(usable).toMatchObject({ step: 1, state: contents(1).state });
        expect(usable!.warnings).toHaveLength(1);
        expect(usable!.warnings[0]).toMatch(
          new RegExp(`step-000002 is damaged: .*${file}.*; falling back to step-000001$`),
        );
        expect(into.model).toEqual(contents(1).model);
      });
    }

    it(`any flipped bit of ${file} is refused`, async () => {
      await store().save(1, contents(1));
      const path = join(folder, 'step-000001', file);
      const bytes = await readFile(path);
      const handle = await open(path, 'r+');
      const stride = file === MANIFEST || file === 'state.json' ? 1 : 37;
      for (let at = 0; at < bytes.length; at += stride) {
        const flipped = Buffer.from([bytes[at] ^ (1 << (at % 8))]);
        await handle.write(flipped, 0, 1, at);
        await expect(store().verify(1), `byte ${at}`).rejects.toMatchObject({ code: 'corrupt' });
        await handle.write(bytes, at, 1, at);
      }
      await handle.close();
      await store().verify(1);
    });
  }

  it('refuses a checkpoint folder under the name of another step', async () => {
    await store().save(1, contents(1));
    await rename(join(folder, 'step-000001'), join(folder, 'step-000009'));
    await expect(store().load(9, target())).rejects.toMatchObject({ code: 'corrupt', file: MANIFEST });
  });

  it('says so when every checkpoint is damaged', async () => {
    await store().save(1, contents(1));
    await rm(join(folder, 'step-000001', MANIFEST));
    await expect(store().loadLatestUsable(target())).rejects.toThrow(/no checkpoint in .* is usable: /);
  });

  it('loads without the optional figures and refuses a later version', async () => {
    await store().save(1, contents(1));
    const path = join(folder, 'step-000001', MANIFEST);
    const text = await readFile(path, 'utf8');
    expect(text).not.toContain('metrics');
    await store().verify(1);
    await writeFile(path, text.replace('"version": 1', '"version": 2'));
    await expect(store().verify(1)).rejects.toThrow('it has version 2; this release reads version 1');
  });
});

describe('leftovers', () => {
  it('are never listed, and the next save removes them', async () => {
    await store().save(1, contents(1));
    const dead = 4_194_304; // above the largest process id of Linux
    for (const name of [`step-000002.tmp-${dead}-00ff00ff`, `step-000003.tmp-${process.pid}-00ff00ff`]) {
      await mkdir(join(folder, name));
      await writeFile(join(folder, name, MANIFEST), '{}');
    }
    await writeFile(join(folder, `latest.tmp-${dead}-00ff00ff`), 'step');
    await mkdir(join(folder, `step-000004.tmp-${process.ppid}-00ff00ff`));
    for (const name of ['step-1', 'step-0000001', 'step-00000x', 'notes']) await mkdir(join(folder, name));
    expect(await steps()).toEqual([1]);
    await store().save(2, contents(2));
    expect(await names()).toEqual(
      [
        'latest',
        'notes',
        'step-0000001',
        'step-000001',
        'step-000002',
        // Another living process may be at work on it.
        `step-000004.tmp-${process.ppid}-00ff00ff`,
        'step-00000x',
        'step-1',
      ].sort(),
    );
  });
});

describe('retention', () => {
  it('keeps the newest and the best', async () => {
    const keeper = store({ keepLast: 2, keepBest: { metric: 'loss', mode: 'min' } });
    const losses = [3, 1, 2, 2.5, 1.5];
    for (const [i, loss] of losses.entries())
      await keeper.save(i + 1, contents(i + 1), { metrics: { loss } });
    expect(await steps()).toEqual([2, 4, 5]);
    for (const step of await steps()) await keeper.verify(step);
    const highest = store({ keepLast: 1, keepBest: { metric: 'loss', mode: 'max' } });
    await highest.save(6, contents(6));
    expect(await steps()).toEqual([4, 6]);
  });

  it('never removes the only checkpoint, nor the one just saved', async () => {
    const keeper = store({ keepLast: 1 });
    await keeper.save(10, contents(10));
    expect(await steps()).toEqual([10]);
    await keeper.save(4, contents(4));
    expect(await steps()).toEqual([4, 10]);
    expect(() => store({ keepLast: 0 })).toThrow('keepLast must be a whole number from 1');
  });

  it('leaves a checkpoint alone while it is being read', async () => {
    const keeper = store({ keepLast: 1 });
    const large = (step: number): CheckpointContents => ({
      model: views(step, { weight: [1 << 20] }),
      optimizer: [],
      state: {},
    });
    await keeper.save(1, large(1));
    const into = views(0, { weight: [1 << 20] });
    let reading = true;
    const read = keeper.load(1, { model: into }).finally(() => (reading = false));
    let next = 2;
    while (reading) await keeper.save(next++, contents(next));
    await read;
    expectSameBytes(into[0], large(1).model[0]);
    expect(next).toBeGreaterThan(2);
    await keeper.save(next, contents(next));
    expect(await steps()).toEqual([next]);
  });

  it('runs saves one after another', async () => {
    const keeper = store({ keepLast: 2 });
    await Promise.all([1, 2, 3, 4].map((step) => keeper.save(step, contents(step))));
    expect(await names()).toEqual(['latest', 'step-000003', 'step-000004']);
  });
});

describe('rewind', () => {
  it('sets later checkpoints aside so that the steps can be saved again', async () => {
    for (const step of [1, 2, 3]) await store().save(step, contents(step));
    expect((await store().rewind(1)).length).toBe(2);
    expect(await readFile(join(folder, 'latest'), 'utf8')).toBe('step-000001\n');
    await store().save(2, contents(20));
    await store().rewind(1);
    expect(await names()).toEqual([
      'latest',
      'step-000001',
      'step-000002.abandoned-1',
      'step-000002.abandoned-2',
      'step-000003.abandoned-1',
    ]);
    await store().rewind(0);
    expect(existsSync(join(folder, 'latest'))).toBe(false);
    expect(await store().latest()).toBeUndefined();
  });
});

describe('a failing system', () => {
  const failAt = (stage: SaveStage, code: string): CheckpointStoreOptions => ({
    keepLast: 1,
    onStage: (reached) => {
      if (reached === stage) throw Object.assign(new Error(`${code}: raw`), { code });
    },
  });
  for (const stage of saveStages) {
    it(`at '${stage}': one clear error, the old checkpoint whole, no leftover`, async () => {
      await store().save(1, contents(1));
      const error = await store(failAt(stage, 'ENOSPC'))
        .save(2, contents(2))
        .catch((e: unknown) => e as CheckpointError);
      const isSaved = stage === 'latest' || stage === 'retention';
      expect(error).toBeInstanceOf(CheckpointError);
      expect(error).toMatchObject({ code: isSaved ? 'finish' : 'save' });
      expect((error as Error).message).toContain('no space left on the device (ENOSPC)');
      expect((error as Error).message).not.toContain('\n');
      expect(await names()).toEqual(['latest', 'step-000001', ...(isSaved ? ['step-000002'] : [])]);
      const into = target();
      await store().load(1, into);
      expect(into.model).toEqual(contents(1).model);
      // The store goes on once the cause is gone.
      await store().save(3, contents(3));
      expect((await store().load('latest', target())).step).toBe(3);
    });
  }

  it('a failed save is not forgotten by the next one, nor does it stop it', async () => {
    let fail = true;
    const keeper = store({
      onStage: () => {
        if (fail) throw new Error('broken');
      },
    });
    const first = keeper.save(1, contents(1));
    const second = keeper.save(2, contents(2)).catch((e: unknown) => e);
    await expect(first).rejects.toThrow('cannot save checkpoint step-000001');
    expect(await second).toBeInstanceOf(CheckpointError);
    fail = false;
    await keeper.save(3, contents(3));
    expect(await steps()).toEqual([3]);
  });
});

it.runIf(process.platform === 'linux')(
  'a reader keeps its data when the checkpoint under it is removed by another process',
  async () => {
    const large: CheckpointContents = { model: views(1, { weight: [1 << 20] }), optimizer: [], state: {} };
    await store().save(1, large);
    const into = views(0, { weight: [1 << 20] });
    const read = store().load(1, { model: into });
    const openFiles = (): number =>
      readdirSync('/proc/self/fd').filter((fd) => {
        try {
          return readlinkSync(`/proc/self/fd/${fd}`).includes(join(folder, 'step-000001'));
        } catch {
          return false;
        }
      }).length;
    while (openFiles() < 4) await new Promise(setImmediate);
    rmSync(join(folder, 'step-000001'), { recursive: true });
    expect((await read).step).toBe(1);
    expectSameBytes(into[0], large.model[0]);
    expect(openFiles()).toBe(0);
  },
);
