import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Child } from '../crash/child.js';
import { noisySwitch, temporaryFolder, tinyText } from '../support/tiny-training.js';

const STEPS = process.env['SWITCHYARD_LONG'] ? 2000 : 300;

test(`resident memory is flat over ${STEPS} steps with evaluations`, { timeout: 600_000 }, async () => {
  const folder = await temporaryFolder();
  try {
    const [path, validation] = ['text.txt', 'validation.txt'].map((name) => join(folder, name));
    await writeFile(path, tinyText(20_000));
    await writeFile(validation, tinyText(200, 2));
    const setup = {
      data: { kind: 'text', path, validation, order: 'shuffled', tokenizer: { kind: 'byte' } },
      cacheFolder: folder,
      seed: 1,
      model: {
        hiddenSize: 32,
        numLayers: 2,
        numHeads: 2,
        intermediateSize: 64,
        contextLength: 32,
        ...noisySwitch,
      },
      train: { batchSize: 8, steps: STEPS, accumulation: 2 },
    };
    await writeFile(join(folder, 'setup.json'), JSON.stringify(setup));
    const script = new URL('fixtures/memory.mjs', import.meta.url).pathname;
    const child = new Child(process.execPath, [
      '--expose-gc',
      script,
      join(folder, 'setup.json'),
      String(STEPS),
    ]);
    expect(await child.ended).toBe(0);
    const told = child.told as unknown as { step: number; bytes: number }[];
    expect(told.at(-1)!.step).toBe(STEPS);
    expect(told.at(-1)!.bytes / told[0].bytes, JSON.stringify(told)).toBeLessThan(1.05);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
