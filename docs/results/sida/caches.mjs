/**
 * Residency and traffic on the recorded routing of the validation sets, one text after another: what a text needs, what is
 * predicted, and how many experts each way of loading moves when only a part of them fits into memory.
 *
 *   node docs/results/sida/caches.mjs --experts 128 --out runs/sida
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createPolicy, simulateCache } from '../../../dist/serve/index.js';
import { predictorId } from './variants.mjs';
import { taskNames } from './tasks.mjs';

const { values: flags } = parseArgs({
  options: {
    task: { type: 'string', multiple: true, default: taskNames },
    experts: { type: 'string', multiple: true, default: ['8', '64', '128'] },
    out: { type: 'string', default: 'runs/sida' },
    records: { type: 'string', default: new URL('.', import.meta.url).pathname },
  },
});
const budgets = [0.1, 0.25, 0.5, 0.75];
const jsonLines = (path) => readFileSync(path, 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line));
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

/** Texts whose predicted experts are loaded before each layer's turn; what is still missing is loaded when the router asks, or left out. */
function predictedLoading(texts, { experts, capacity, guess, exact }) {
  /** Resident experts, least lately used first. */
  const resident = new Set();
  let [needed, hits, loads, stalls] = [0, 0, 0, 0];
  const use = (id, wanted) => {
    if (resident.delete(id)) {
      resident.add(id);
      return;
    }
    if (resident.size >= capacity) {
      let victim;
      for (const each of resident) {
        victim ??= each;
        if (!wanted.has(each)) {
          victim = each;
          break;
        }
      }
      resident.delete(victim);
    }
    resident.add(id);
    loads++;
  };
  for (const { layers } of texts) {
    layers.forEach((layer, l) => {
      const idOf = (expert) => l * experts + expert;
      const ahead = new Set(layer[guess].slice(0, capacity).map(idOf));
      for (const id of ahead) use(id, ahead);
      const asked = layer.needed.map(idOf);
      const found = asked.filter((id) => resident.has(id));
      needed += asked.length;
      hits += found.length;
      if (!exact) return;
      stalls += asked.length - found.length;
      const wanted = new Set(asked);
      for (const id of asked) use(id, wanted);
    });
  }
  return { recall: hits / needed, loadsPerText: loads / texts.length, stallsPerText: stalls / texts.length };
}

for (const experts of flags.experts.map(Number)) {
  for (const task of flags.task) {
    const traceFile = join(flags.out, 'traces', `${task}-${experts}.jsonl`);
    if (!existsSync(traceFile)) continue;
    const lines = jsonLines(traceFile);
    const numExperts = lines[0].layers.map((layer) => layer.numExperts);
    const total = numExperts.reduce((a, b) => a + b, 0);
    const trace = lines.flatMap(({ experts: chosen }) => numExperts.map((_, layer) => ({ layer, experts: [...new Set(chosen.map((of) => of[layer][0]))].sort((a, b) => a - b) })));
    const predictedFile = join(flags.out, 'traces', `${predictorId(task, experts, 'sida', 1)}.predicted.jsonl`);
    const texts = existsSync(predictedFile) ? jsonLines(predictedFile) : undefined;
    const found = { task, experts, texts: lines.length, total, activeShare: mean(trace.map((step) => step.experts.length)) / experts, budgets: {} };
    if (texts) {
      const size = (key) => mean(texts.map(({ layers }) => layers.reduce((sum, layer) => sum + layer[key].length, 0))) / total;
      const recall = (key) => {
        const all = texts.flatMap(({ layers }) => layers.map((layer) => [layer.needed.filter((e) => layer[key].includes(e)).length, layer.needed.length]));
        return all.reduce((sum, [n]) => sum + n, 0) / all.reduce((sum, [, n]) => sum + n, 0);
      };
      const sorted = [...texts].sort((a, b) => a.length - b.length);
      const quarters = [0, 1, 2, 3].map((i) => {
        const group = sorted.slice(Math.floor((i * sorted.length) / 4), Math.floor(((i + 1) * sorted.length) / 4));
        return { length: mean(group.map(({ length }) => length)), resident: mean(group.map(({ layers }) => layers.reduce((sum, { one }) => sum + one.length, 0) / total)) };
      });
      found.predicted = { needed: size('needed'), one: size('one'), three: size('three'), recallOne: recall('one'), recallThree: recall('three'), quarters };
    }
    for (const budget of budgets) {
      const capacity = Math.max(1, Math.floor(budget * total));
      const result = {};
      for (const kind of ['fifo', 'lru', 'lfu', 'layered', 'static', 'belady']) {
        // The popular experts are those of the first half, which does not count.
        const half = trace.slice(0, Math.floor(trace.length / 2));
        const policy = createPolicy(kind, { numExperts, trace: kind === 'belady' ? trace : half });
        const { hitRate, loads } = simulateCache({ numExperts, trace, capacity, policy, placed: kind === 'static' });
        result[kind] = { hitRate, loadsPerText: loads / lines.length };
      }
      const whole = numExperts.length - Math.floor(capacity / experts);
      result.wholeLayers = capacity < experts ? { loadsPerText: total, beyondBudget: true } : { loadsPerText: capacity >= total ? 0 : Math.min(numExperts.length, whole + 1) * experts };
      if (texts) {
        result.sida = predictedLoading(texts, { experts, capacity, guess: 'one', exact: false });
        result.prefetch = predictedLoading(texts, { experts, capacity, guess: 'one', exact: true });
        result.prefetchThree = predictedLoading(texts, { experts, capacity, guess: 'three', exact: true });
      }
      found.budgets[budget] = { capacity, ...result };
    }
    writeFileSync(join(flags.records, `caches-${task}-${experts}.json`), `${JSON.stringify(found, null, 1)}\n`);
    console.log(`${task}-${experts}: ${(100 * found.activeShare).toFixed(1)} % of a layer active; hit rates at 25 %: ${['fifo', 'lru', 'lfu', 'layered', 'static', 'belady'].map((kind) => `${kind} ${(100 * found.budgets[0.25][kind].hitRate).toFixed(1)}`).join(', ')}`);
  }
}
