import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  loadPredictor,
  openPredictorFor,
  PredictorProgram,
  type PredictorOptions,
} from '../../src/serve/index.js';
import { saveSmallModel } from '../support/served-models.js';
import { savePredictorFor } from '../support/small-predictor.js';
import { temporaryFolder } from '../support/tiny-training.js';

/** The built package: a process needs a file that Node can run. */
const built = (await import(
  new URL('../../dist/serve/index.js', import.meta.url).href
)) as typeof import('../../src/serve/index.js');

let folder: string;
let options: PredictorOptions;
const path = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = await temporaryFolder();
  await saveSmallModel(path('model'), 'classifier');
  await saveSmallModel(path('other'), 'encoderDecoder');
  options = await savePredictorFor(path('model'), path('predictor'));
});
afterAll(() => rm(folder, { recursive: true }));

const batches = Array.from({ length: 24 }, (_, i) => [
  Int32Array.from({ length: 3 + (i % 5) }, (_t, t) => (i * 7 + t * 3) % 200),
  Int32Array.of(i, 5, 9),
]);

test('a predictor in its own process says what it says here, ahead of the passes', async () => {
  const { predictor, embeddings, options: model } = await openPredictorFor(path('predictor'), path('model'));
  const here = new PredictorProgram(predictor, embeddings, { contextLength: model.contextLength, topK: 2 });
  const there = await built.PredictorProcess.open({
    predictor: path('predictor'),
    model: path('model'),
    topK: 2,
  });
  expect(there.layers).toEqual(options.layers);
  const tables = new built.TablesAhead(there);
  for (const rows of batches)
    tables.expect(
      rows.map((row) => [...row]),
      { over: false },
    );
  for (const rows of batches) {
    const { layers } = await tables.tableFor(rows);
    for (const { layer, experts, probabilities } of await here.predict(rows)) {
      expect(layers.get(layer.name)?.experts).toEqual(experts);
      // Longer texts, with which one is foretold, change the order of sums.
      layers.get(layer.name)?.alphas.forEach((alpha, i) => expect(alpha).toBeCloseTo(probabilities[i], 5));
    }
  }
  expect(tables.stats.tables).toBe(24);
  expect(tables.ahead).toBe(0);
  expect(there.milliseconds).toBeGreaterThan(0);
  await expect(there.predict([new Int32Array()])).rejects.toThrow('a text of 0 tokens cannot be predicted');
  const last = there.predict(batches[0]);
  await there.release();
  await last.catch(() => undefined);
  await expect(there.predict(batches[0])).rejects.toThrow('the process of the predictor has ended');
  await here.release();
});

test('what it refuses, it says in its own words', async () => {
  const open = (predictor: string, model: string): Promise<unknown> =>
    built.PredictorProcess.open({ predictor: path(predictor), model: path(model) });
  await expect(open('nowhere', 'model')).rejects.toThrow('there is no predictor here');
  await expect(open('predictor', 'other')).rejects.toThrow('was made for another model');
  expect((await loadPredictor(path('predictor'))).options).toEqual(options);
});

/** Waits for something that comes by itself. */
async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 20));
}

test('signals to end leave it at work: it ends with its channel', async () => {
  const there = await built.PredictorProcess.open({ predictor: path('predictor'), model: path('model') });
  const { pid } = there;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.kill(pid!, signal);
    expect(await there.predict(batches[0])).toHaveLength(options.layers.length);
  }
  expect(there.pid).toBe(pid);
  await there.release();
  expect(() => process.kill(pid!, 0)).toThrow('ESRCH');
});

test('a process that dies is started again; what was asked of it is refused', async () => {
  const there = await built.PredictorProcess.open({ predictor: path('predictor'), model: path('model') });
  const expected = await there.predict(batches[1]);
  const { pid } = there;
  // Stopped first, so that it cannot answer before it is killed.
  process.kill(pid!, 'SIGSTOP');
  const lost = there.predict(batches[1]);
  process.kill(pid!, 'SIGKILL');
  await expect(lost).rejects.toThrow('the process of the predictor has ended');
  await expect(there.predict(batches[1])).rejects.toThrow('the process of the predictor has ended');
  await until(() =>
    there.predict(batches[1]).then(
      () => true,
      () => false,
    ),
  );
  expect(await there.predict(batches[1])).toEqual(expected);
  expect(there.pid).not.toBe(pid);
  await there.release();
});

test('none is started again once it is released', async () => {
  const there = await built.PredictorProcess.open({ predictor: path('predictor'), model: path('model') });
  const { pid } = there;
  process.kill(pid!, 'SIGKILL');
  await until(() => there.pid === undefined);
  await there.release();
  await new Promise((resolve) => setTimeout(resolve, 700));
  expect(there.pid).toBeUndefined();
});

test('an engine foretells texts ahead of its passes, and takes as many guesses as it is told', async () => {
  const paths = { path: path('model'), predictor: path('predictor'), mode: 'sida' } as const;
  const engine = await built.openEngine({ ...paths, guesses: 2 }, { readTokens: 16 });
  const inputs = batches.slice(0, 12).map(([row]) => [...row]);
  const classes = await engine.classify({ inputs, routing: true });
  for (const [i, { routing }] of classes.entries()) {
    expect(routing).toHaveLength(inputs[i].length);
    for (const token of routing!) for (const experts of token) expect(new Set(experts).size).toBe(2);
  }
  // All were foretold together, so only the first pass waited.
  expect((await engine.stats()).store).toMatchObject({ tables: 12, tableWaits: 1 });
  await engine.stop();
  await expect(built.openEngine({ path: path('model'), guesses: 2 })).rejects.toThrow(
    'guesses are made by a predictor',
  );
});
