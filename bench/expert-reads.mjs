/**
 * How fast experts come from the disk: packed folders of one model in float32, bfloat16 and float16, read past the page cache and
 * through it, eight at a time in random order; and how much of that is the widening of 16-bit floats. One JSON line for each.
 *
 *   node bench/expert-reads.mjs [--experts 24] [--rounds 3] [--at-once 8] [--folder FOLDER]
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  importCheckpoint,
  openCheckpoint,
  ownModelType,
  saveSafetensors,
} from '../dist/checkpoints/index.js';
import { createModel, modelSchema } from '../dist/models/index.js';
import { compileWidening } from '../dist/runtime/index.js';
import { expertBanks, PackedExperts } from '../dist/serve/store/index.js';
import { SlotMemory } from '../dist/serve/store/slot-memory.js';
import { argument } from './config.mjs';

const numExperts = Number(argument('experts', '24'));
const rounds = Number(argument('rounds', '3'));
const atOnce = Number(argument('at-once', '8'));

/** A decoder of one block with experts of Switch-base. */
const options = modelSchema.parse({
  ...{ kind: 'languageModel', numLayers: 1, hiddenSize: 768, numHeads: 12, intermediateSize: 3072 },
  ...{ contextLength: 16, vocabSize: 32, sparse: { every: 1, numExperts } },
});

async function writeModel(folder) {
  await mkdir(folder, { recursive: true });
  await writeFile(
    join(folder, 'config.json'),
    JSON.stringify({ model_type: ownModelType(options.kind), ...options }),
  );
  const tensors = [...createModel(options).parameters()].map(([name, { shape, size }]) => ({
    ...{ name, dtype: 'F32', shape },
    data: () => Float32Array.from({ length: size }, (_, i) => ((i * 2654435761) % 4096) / 4096 - 0.5),
  }));
  await saveSafetensors(join(folder, 'model.safetensors'), tensors);
}

function shuffled(count, seed) {
  const order = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = seed % (i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** Bytes a second of reading every expert once; the best of the rounds. */
async function readAll(cold) {
  const { slots } = new SlotMemory(atOnce, cold.slotBytes);
  // Pages come into being when they are first written to, once in the life of a store.
  for (const { data } of slots) data.fill(0);
  let best = 0;
  for (let round = 0; round < rounds; round++) {
    const order = shuffled(numExperts, round + 1);
    const start = performance.now();
    let bytes = 0;
    await Promise.all(
      slots.map(async (slot) => {
        for (let expert = order.pop(); expert !== undefined; expert = order.pop())
          bytes += await cold.read(0, expert, slot);
      }),
    );
    best = Math.max(best, (bytes / (performance.now() - start)) * 1000);
  }
  return best;
}

/** Bytes a second, as they are stored, of widening one expert where it lies. */
function widenOne(dtype, floats) {
  const { memory, data } = new SlotMemory(1, floats * 4).slots[0];
  const widen = compileWidening(memory)[dtype];
  let best = Infinity;
  for (let round = 0; round < 20; round++) {
    const start = performance.now();
    widen(data.byteOffset + 2 * floats, data.byteOffset, floats);
    best = Math.min(best, performance.now() - start);
  }
  return (floats * 2 * 1000) / best;
}

const root = argument('folder', '') || (await mkdtemp(join(tmpdir(), 'expert-reads-')));
try {
  await writeModel(join(root, 'model'));
  for (const [dtype, stored] of [
    ['float32', 'F32'],
    ['bfloat16', 'BF16'],
    ['float16', 'F16'],
  ]) {
    const folder = join(root, dtype);
    await importCheckpoint(join(root, 'model'), folder, { pack: true, dtype });
    for (const direct of [true, false]) {
      const cold = await PackedExperts.open(await openCheckpoint(folder), expertBanks(options, true), direct);
      const rate = await readAll(cold);
      const { pageCache } = cold.traits;
      await cold.close();
      const gigabytes = (bytes) => Number((bytes / 1e9).toFixed(2));
      console.log(
        JSON.stringify({
          dtype,
          pageCache,
          expertMegabytes: gigabytes(cold.layers[0].pieces[0].bytes * 1000),
          storedGigabytesPerSecond: gigabytes(rate),
          float32GigabytesPerSecond: gigabytes(stored === 'F32' ? rate : 2 * rate),
          ...(stored === 'F32'
            ? {}
            : { wideningAlone: gigabytes(widenOne(stored, cold.layers[0].expertBytes / 4)) }),
        }),
      );
    }
  }
} finally {
  if (argument('folder', '') === '') await rm(root, { recursive: true });
}
