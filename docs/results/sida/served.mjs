/**
 * Teachers over a store of experts, text by text: output with the router in charge against everything in memory, bit by bit; the
 * router's own decisions in place of the routers; and the time that texts wait for weights against what was not predicted.
 *
 *   node docs/results/sida/served.mjs --experts 128 --texts 200
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openCheckpoint } from '../../../dist/checkpoints/index.js';
import { cast, input } from '../../../dist/graph/index.js';
import { createPolicy, expertBanks, openColdExperts, openSplitModel, PagedExpertStore } from '../../../dist/serve/index.js';
import { loadModel } from '../../../dist/train/index.js';
import { taskNames, tasks } from './tasks.mjs';
import { predictorId } from './variants.mjs';

const { values: flags } = parseArgs({
  options: {
    task: { type: 'string', multiple: true, default: taskNames },
    experts: { type: 'string', multiple: true, default: ['128'] },
    texts: { type: 'string', default: '150' },
    out: { type: 'string', default: 'runs/sida' },
    records: { type: 'string', default: new URL('.', import.meta.url).pathname },
  },
});
const count = Number(flags.texts);
const budgets = [0.1, 0.25, 0.5, 0.75];
const runtime = { threads: 1 };
const jsonLines = (path) => readFileSync(path, 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line));

/** A store of so many places over a teacher's file, and passes over it. */
async function serve(folder, { slots, policy = 'lru', ...hooks }) {
  const { model, weights } = await loadModel(folder);
  const banks = expertBanks(model.options, true);
  const cold = await openColdExperts(await openCheckpoint(folder), banks);
  const numExperts = banks.map((bank) => bank.numExperts);
  const store = new PagedExpertStore(cold, { slots, policy: createPolicy(policy, { numExperts }) });
  const passes = await openSplitModel(model, weights, store, { runtime, ...hooks });
  hooks.attach?.(store);
  return { model, store, passes, experts: numExperts.reduce((a, b) => a + b, 0) };
}

/** Logits of every text, and what the store did. */
async function read({ model, store, passes }, texts, length) {
  const pass = await passes.get('classify', (context) => {
    const source = input('source', 'int32', [1, length]);
    const sourceMask = cast(input('sourceMask', 'bool', [1, length]), 'float32');
    return { logits: model.forward({ source, sourceMask }, context).logits };
  });
  const logits = [];
  const started = performance.now();
  for (const ids of texts) {
    const source = new Int32Array(length);
    const sourceMask = new Uint8Array(length).fill(1, 0, ids.length);
    source.set(ids);
    logits.push(...(await pass.run({ source, sourceMask })).logits);
  }
  const milliseconds = (performance.now() - started) / texts.length;
  const { stats } = store;
  await passes.release();
  await store.close();
  return { logits: Float32Array.from(logits), stats, milliseconds };
}

const equal = (a, b) => a.length === b.length && a.every((value, i) => Object.is(value, b[i]));
const farthest = (a, b) => a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);

for (const experts of flags.experts.map(Number)) {
  for (const task of flags.task) {
    const folder = join(flags.out, 'teachers', `${task}-${experts}`);
    const predicted = join(flags.out, 'traces', `${predictorId(task, experts, 'sida', 1)}.predicted.jsonl`);
    if (!existsSync(folder) || !existsSync(predicted)) continue;
    const { contextLength } = tasks[task];
    const traces = jsonLines(join(flags.out, 'traces', `${task}-${experts}.jsonl`)).slice(0, count);
    const guesses = jsonLines(predicted).slice(0, count);
    const texts = traces.map(({ ids }) => ids);
    const resident = await serve(folder, { slots: Infinity });
    await resident.store.preload();
    const total = resident.experts;
    const whole = await read(resident, texts, contextLength);
    /** The routers' decisions as they were recorded in float32. */
    const decided = [];
    const observer = {
      observe: ({ pass, layer, experts: chosen, gates }) => {
        (decided[pass] ??= [])[layer] = { experts: Int32Array.from(chosen), gates: Float32Array.from(gates) };
      },
    };
    await read(await serve(folder, { slots: Infinity, observer }), texts, contextLength);
    const routing = { topK: [1, 1, 1], decide: ({ pass }, layers) => layers.map((layer) => decided[pass][layer]) };
    const oracle = await read(await serve(folder, { slots: Infinity, routing }), texts, contextLength);
    const rows = [];
    for (const budget of budgets) {
      const slots = Math.floor(budget * total);
      const summary = ({ logits, stats, milliseconds }, recall) => ({
        bitEqual: equal(logits, whole.logits),
        milliseconds,
        hitRate: stats.hitRate,
        misses: (stats.accesses - stats.hits) / texts.length,
        stall: stats.stallMilliseconds / texts.length,
        readMilliseconds: stats.readMilliseconds / stats.reads,
        megabytes: stats.bytesRead / texts.length / 1e6,
        ...(recall === undefined ? {} : { recall }),
      });
      const none = await read(await serve(folder, { slots }), texts, contextLength);
      let store;
      const prefetcher = {
        begin: ({ pass }) => {
          guesses[pass].layers.forEach(({ one }, layer, { length }) => store.prefetch(layer, one, length - layer));
        },
      };
      const prefetch = await read(
        await serve(folder, { slots, policy: 'predicted', prefetcher, attach: (opened) => (store = opened) }),
        texts,
        contextLength,
      );
      rows.push({ budget, slots, none: summary(none), prefetch: summary(prefetch) });
      console.log(`${task}-${experts} at ${100 * budget} %: ${JSON.stringify(rows.at(-1))}`);
    }
    const found = {
      task,
      experts,
      texts: texts.length,
      resident: { milliseconds: whole.milliseconds },
      oracle: { bitEqual: equal(oracle.logits, whole.logits), largestDifference: farthest(oracle.logits, whole.logits) },
      rows,
    };
    writeFileSync(join(flags.records, `served-${task}-${experts}.json`), `${JSON.stringify(found, null, 1)}\n`);
    console.log(`${task}-${experts}: oracle bit-equal ${found.oracle.bitEqual}`);
  }
}
