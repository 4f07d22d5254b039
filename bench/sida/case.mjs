/**
 * One case of the system benchmark in a process of its own: a way to hold experts, a budget, a task.
 */
import { openCheckpoint, readParameters } from '../../dist/checkpoints/index.js';
import { cast, input } from '../../dist/graph/index.js';
import { createModel } from '../../dist/models/index.js';
import { nameParameters } from '../../dist/nn/index.js';
import {
  createPolicy,
  expertBanks,
  expertParameters,
  openColdExperts,
  openSplitModel,
  PagedExpertStore,
  simulateCache,
} from '../../dist/serve/index.js';
import { SlotMemory } from '../../dist/serve/store/slot-memory.js';
import { factorisedOptions, residualExperts } from './residuals.mjs';
import { loadTexts, stepsOf } from './traces.mjs';

/** Texts whose decisions fill memory before time is taken, and those from which popularity is known. */
const WARM_UP = 60;
const POPULARITY = 200;

const seconds = (since) => (performance.now() - since) / 1000;
const sum = (list) => list.reduce((a, b) => a + b, 0);

/** Ways to hold experts: the policy, what is read ahead, and whether predictions replace the router. */
export const modes = {
  resident: { policy: 'lru' },
  'whole layers': { policy: 'fifo', wholeLayers: true },
  fifo: { policy: 'fifo' },
  lru: { policy: 'lru' },
  lfu: { policy: 'lfu' },
  static: { policy: 'static' },
  belady: { policy: 'belady' },
  prefetch: { policy: 'predictedLfu', ahead: 'one' },
  'prefetch by three guesses': { policy: 'predictedLfu', ahead: 'three' },
  sida: { policy: 'predicted', ahead: 'one', decides: true },
  'prefetch by an oracle': { policy: 'predictedLfu', ahead: 'needed' },
  // The centre stays, factors of what is left beside it move. As many places as experts have without, so equal hits …
  'ResMoE resident': { policy: 'lru', residuals: true },
  'ResMoE × prefetch': { policy: 'predictedLfu', ahead: 'one', residuals: true },
  'ResMoE × sida': { policy: 'predicted', ahead: 'one', decides: true, residuals: true },
  // … and as many as the same memory holds.
  'ResMoE × prefetch in the same memory': {
    policy: 'predictedLfu',
    ahead: 'one',
    residuals: true,
    sameMemory: true,
  },
};

/** Whether everything is in memory. */
export const isResident = (mode) => mode.endsWith('resident');

/** A cold tier whose reads can be left out, so that memory is filled in no time that a case would be charged for. */
function pausable(cold) {
  const state = { paused: false };
  return {
    state,
    layers: cold.layers,
    slotBytes: cold.slotBytes,
    traits: cold.traits,
    read: async (layer, expert, slot) => {
      if (!state.paused) return cold.read(layer, expert, slot);
      // Pages that were never written cost no memory and no time to read.
      if (slot.data[0] === 0) slot.data.fill(0.01);
      return 0;
    },
    close: () => cold.close(),
  };
}

/** Model parallelism under a budget, as papers compare with it: all of a layer is brought in before it is computed. */
function inWholeLayers(store) {
  const all = (layer) => Array.from({ length: store.layers[layer].numExperts }, (_, expert) => expert);
  const there = new Set();
  return new Proxy(store, {
    get: (target, key) => {
      if (key === 'announce')
        return (layer, experts) => {
          there.delete(layer);
          target.announce(layer, all(layer));
          return experts.map(() => false);
        };
      if (key === 'acquire')
        return async (layer, experts) => {
          if (!there.has(layer)) {
            const leases = await target.acquire(layer, all(layer));
            there.add(layer);
            const wanted = leases.filter(({ expert }) => experts.includes(expert));
            for (const lease of leases) if (!wanted.includes(lease)) lease.release();
            return wanted;
          }
          return target.acquire(layer, experts);
        };
      const value = target[key];
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** What tokens are sent to where predictions replace the router: their own expert if it was predicted, else one that was. */
function predictedExperts({ experts, one }) {
  const known = new Set(one);
  const unused = one.filter((expert) => !experts.includes(expert));
  let next = 0;
  return experts.map((expert) => {
    if (known.has(expert) || one.length === 0) return expert;
    return next < unused.length ? unused[next++] : one[next++ % one.length];
  });
}

/** How many experts a case has places for. */
function placesOf(mode, budget, total, { slotBytes }, options) {
  if (isResident(mode)) return total;
  if (!modes[mode].sameMemory) return Math.max(1, Math.floor(budget * total));
  const expertBytes = 8 * options.hiddenSize * options.intermediateSize;
  const centres = (options.numEncoderLayers / 2) * expertBytes;
  return Math.min(total, Math.max(1, Math.floor((budget * total * expertBytes - centres) / slotBytes)));
}

/** Runs a case and says what was seen. */
export async function runCase({ folder, traces, task, mode, budget, limit, most, warmUp = WARM_UP }) {
  const began = performance.now();
  const { policy: policyName, ahead, decides = false, wholeLayers = false, residuals = false } = modes[mode];
  const checkpoint = await openCheckpoint(folder);
  const options = residuals ? factorisedOptions(checkpoint.options) : checkpoint.options;
  const model = createModel(options);
  const parameters = nameParameters(model);
  const layers = expertBanks(options, true);
  const own = expertParameters({ layers });
  const weights = new Map(
    [...parameters].flatMap(([name, { size }]) => (own.has(name) ? [] : [[name, new Float32Array(size)]])),
  );
  if (residuals) for (const values of weights.values()) values.fill(0.01);
  else await readParameters(checkpoint, weights);
  const source = residuals
    ? await residualExperts(checkpoint, layers)
    : await openColdExperts(checkpoint, layers);
  const numExperts = layers.map((layer) => layer.numExperts);
  const total = sum(numExperts);
  const slots = placesOf(mode, budget, total, source, checkpoint.options);
  if (wholeLayers && slots < numExperts[0]) return { skipped: 'a whole layer does not fit' };

  const texts = loadTexts(task, { folder: traces, numLayers: layers.length, numExperts: numExperts[0] });
  const popular = texts.slice(0, POPULARITY);
  const first = Math.min(POPULARITY, Math.floor(texts.length / 2));
  const before = texts.slice(first, first + warmUp);
  const measured = texts.slice(first + warmUp, first + warmUp + most);
  const decisionsOf = (text) =>
    text.layers.map((layer) => (decides ? predictedExperts(layer) : layer.experts));
  const needs = (text) => decisionsOf(text).map((experts) => [...new Set(experts)].sort((a, b) => a - b));
  const steps = [...before, ...measured].flatMap((text) =>
    needs(text).map((experts, layer) => ({ layer, experts })),
  );
  const policy = createPolicy(policyName, {
    numExperts,
    trace: policyName === 'static' ? stepsOf(popular) : steps,
  });

  const cold = pausable(source);
  const paged = new PagedExpertStore(cold, { slots, policy, warmUp: 0 });
  const store = wholeLayers ? inWholeLayers(paged) : paged;
  cold.state.paused = true;
  await paged.preload();
  if (!isResident(mode) && !wholeLayers)
    for (const text of before)
      for (const [layer, experts] of needs(text).entries()) {
        paged.announce(layer, experts);
        for (const expert of experts)
          for (const lease of await paged.acquire(layer, [expert])) lease.release();
      }

  let current = 0;
  // What is left of this text comes before all of the next one.
  const expect = (index, layer) => {
    const text = measured[index];
    const soon = -(index * layers.length + layer);
    if (text) paged.prefetch(layer, decides ? needs(text)[layer] : text.layers[layer][ahead], soon);
  };
  const passes = await openSplitModel(model, weights, store, {
    routing: {
      topK: numExperts.map(() => 1),
      decide: (_, order) => {
        const text = measured[current];
        const time = padded(text.length);
        const decisions = decisionsOf(text);
        return order.map((layer) => {
          const experts = new Int32Array(time).fill(-1);
          experts.set(decisions[layer]);
          return { experts, gates: new Float32Array(time).fill(0.5) };
        });
      },
    },
    ...(ahead && {
      prefetcher: {
        begin: () => {
          if (current === 0) for (const layer of layers.keys()) expect(0, layer);
        },
        // The hash thread is a text ahead: as soon as a layer has decided, the next text's experts may come.
        decided: ({ layer }) => expect(current + 1, layer),
      },
    }),
  });
  const passOf = (time) =>
    passes.get(`classify ${time}`, (context) => {
      const source = input('source', 'int32', [1, time]);
      const sourceMask = cast(input('sourceMask', 'bool', [1, time]), 'float32');
      return { logits: model.forward({ source, sourceMask }, context).logits };
    });
  for (const time of new Set(measured.map(({ length }) => padded(length)))) await passOf(time);
  const run = async (text) => {
    const time = padded(text.length);
    const [source, sourceMask] = [new Int32Array(time), new Uint8Array(time)];
    source.fill(7, 0, text.length);
    sourceMask.fill(1, 0, text.length);
    const start = performance.now();
    await (await passOf(time)).run({ source, sourceMask });
    return seconds(start);
  };
  // The first text is not timed: programs are warm then, and reads ahead of the second have begun, as in all later ones.
  if (isResident(mode)) await run(measured[0]);
  cold.state.paused = false;
  await run(measured[0]);

  const start = paged.stats;
  const processor = process.cpuUsage();
  const times = [];
  const from = performance.now();
  for (current = 1; current < measured.length; current++) {
    times.push(await run(measured[current]));
    if (seconds(from) > limit && times.length > 1) break;
  }
  const wall = seconds(from);
  const end = paged.stats;
  const { user, system } = process.cpuUsage(processor);
  const delta = (key) => end[key] - start[key];
  const done = measured.slice(1, 1 + times.length);
  const sorted = times.toSorted((a, b) => a - b);
  const quantile = (q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
  const known = [...before, measured[0]];
  // The oracle on the same stretch, with memory as full.
  const simulated = (name) =>
    simulateCache({
      numExperts,
      trace: [...known, ...done].flatMap((text) =>
        text.layers.map(({ needed }, layer) => ({ layer, experts: needed })),
      ),
      capacity: slots,
      policy: createPolicy(name, { numExperts, trace: stepsOf([...known, ...done]) }),
      warmUp: sum(known.flatMap((text) => text.layers.map(({ needed }) => needed.length))),
    });
  const oracle = simulated('belady');
  const result = {
    slots,
    slotBytes: cold.slotBytes,
    expertMemoryBytes: slots * cold.slotBytes,
    alwaysResidentBytes: sum([...weights.values()].map(({ byteLength }) => byteLength)),
    texts: times.length,
    tokens: sum(done.map(({ length }) => length)),
    wallSeconds: wall,
    processorSeconds: (user + system) / 1e6,
    textsPerSecond: times.length / wall,
    latency: { median: quantile(0.5), p95: quantile(0.95) },
    times,
    hitRate: wholeLayers ? undefined : delta('hits') / delta('accesses'),
    beladyHitRate: oracle.hitRate,
    lruHitRate: simulated('lru').hitRate,
    activeShare:
      sum(done.flatMap((text) => text.layers.map(({ needed }) => needed.length))) / (done.length * total),
    recall:
      ahead &&
      sum(
        done.flatMap((text) =>
          text.layers.map((layer) => layer.needed.filter((id) => layer[ahead].includes(id)).length),
        ),
      ) / sum(done.flatMap((text) => text.layers.map(({ needed }) => needed.length))),
    bytesRead: delta('bytesRead'),
    reads: delta('reads'),
    unusedPrefetches: delta('unusedPrefetches'),
    stallSeconds: delta('stallMilliseconds') / 1000,
    pageCache: end.pageCache,
    peakResidentBytes: process.resourceUsage().maxRSS * 1024,
    caseSeconds: seconds(began),
  };
  await passes.release();
  await paged.close();
  return result;
}

/** Passes are compiled for whole sixteens of tokens. */
function padded(length) {
  return Math.ceil(length / 16) * 16;
}

/** Reads that are under way at once while the disk is measured: more than a case has, so that no case can have more. */
const DISK_READS = 8;

/** Bytes a second of direct reads of whole experts, far apart in the files, with nothing else to do. */
export async function measureDisk({ folder, limit }) {
  const checkpoint = await openCheckpoint(folder);
  const layers = expertBanks(checkpoint.options, true);
  const cold = await openColdExperts(checkpoint, layers);
  const { slots } = new SlotMemory(DISK_READS, cold.slotBytes);
  // Pages come into being when they are first written to, once in the life of a store.
  for (const { data } of slots) data.fill(0);
  let [next, bytes] = [0, 0];
  const from = performance.now();
  const read = async (slot) => {
    while (seconds(from) < limit) {
      const at = next++;
      const moved = await cold.read(at % layers.length, (37 * at) % layers[0].numExperts, slot);
      bytes += moved;
    }
  };
  await Promise.all(slots.map(read));
  const result = { bytesPerSecond: bytes / seconds(from), pageCache: cold.traits.pageCache };
  await cold.close();
  return result;
}
