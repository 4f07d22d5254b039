/**
 * What each way of routing costs: the whole training step of the benchmark's model with every router and sparse layer,
 * as a ratio to plain Switch (softmax, top-1) at equal FLOPs. Steps of both are taken in turn in one process, so that
 * whatever else the machine does hits both; the ratio is the median over the pairs. The ratio of processor times stands
 * beside it: it is the steadier one on a busy machine, but does not see what fails to run in parallel.
 *
 *   node bench/routers.mjs [--pairs 12] [--warmup 3] [--threads 2] [--only NAME,NAME] [--json]
 *   node bench/routers.mjs --profile NAME      milliseconds a step by operator, beside Switch's
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { closestSize } from '../dist/compare/index.js';
import { LanguageModel, languageModelSchema, sizeOfModel } from '../dist/models/index.js';
import { nameParameters } from '../dist/nn/index.js';
import { createWeights, StepProgram, Trainer, trainSchema } from '../dist/train/index.js';
import { argument, modelOptions, randomBatches, shape, sizes, tokens } from './config.mjs';

const threads = Number(argument('threads', '2'));
const pairs = Number(argument('pairs', '12'));
const warmup = Number(argument('warmup', '3'));
const { numExperts, intermediateSize } = sizes;

/** Experts of a k-th of the width: k of them multiply as much as one of Switch's. */
const experts = (router, topK = 1, more = {}) => ({
  numExperts,
  topK,
  intermediateSize: intermediateSize / topK,
  router,
  ...more,
});
/** The size at which a layer multiplies as much as Switch's. */
const atSwitchFlops = (sparse) =>
  sparse(closestSize((size) => flopsOf(sparse(size)), flopsOf(experts({ kind: 'softmax' }))));

/** By name: the model's `sparse` section, and why it differs from Switch's where that is not the router alone. */
const contestants = {
  'switch again': {
    sparse: () => experts({ kind: 'softmax' }),
    note: 'the same model: how far from 1 a ratio is by chance',
  },
  top2: { sparse: () => experts({ kind: 'softmax' }, 2) },
  'top2 normalised': { sparse: () => experts({ kind: 'softmax', normalizeGates: true }, 2) },
  sigmoid: { sparse: () => experts({ kind: 'sigmoid' }) },
  'sigmoid top4': { sparse: () => experts({ kind: 'sigmoid' }, 4) },
  noisyTopK: { sparse: () => experts({ kind: 'noisyTopK' }) },
  'noisyTopK top2': { sparse: () => experts({ kind: 'noisyTopK' }, 2) },
  sBase: { sparse: () => experts({ kind: 'sBase' }) },
  'sBase top4': { sparse: () => experts({ kind: 'sBase' }, 4) },
  expertChoice: { sparse: () => experts({ kind: 'expertChoice' }) },
  hash: { sparse: () => experts({ kind: 'hash' }) },
  random: { sparse: () => experts({ kind: 'random' }) },
  omni: {
    sparse: () => experts({ kind: 'softmax', bias: true }, 1, { routerSharing: { share: 'weights' } }),
  },
  adaptiveClustering: { sparse: () => experts({ kind: 'adaptiveClustering' }) },
  'adaptiveClustering top2': { sparse: () => experts({ kind: 'adaptiveClustering' }, 2) },
  biasBalanced: { sparse: () => experts({ kind: 'biasBalanced' }) },
  stratified: {
    sparse: () => ({ kind: 'stratified', strata: [4, 12], topK: 1, intermediateSize }),
    note: 'reference: the Switch step and the measured extra expert calls',
    requestsMore: true,
  },
  'stratified 4 strata': {
    sparse: () => ({ kind: 'stratified', strata: [4, 4, 4, 4], topK: 1, intermediateSize }),
    note: 'the same; more gates',
    requestsMore: true,
  },
  topKActivation: { sparse: () => ({ kind: 'topKActivation', topK: 128 }) },
  'productKey dense': {
    sparse: () => atSwitchFlops((subKeys) => ({ kind: 'productKey', path: 'dense', subKeys })),
  },
  'productKey sparse': {
    // 181² values hold as many parameters as Switch's experts; they multiply less, and are gathered one by one.
    sparse: () => ({ kind: 'productKey', path: 'sparse', subKeys: 181 }),
    note: 'equal parameters, fewer FLOPs',
  },
};

function optionsWith(sparse) {
  const { sparse: _, ...rest } = modelOptions;
  return languageModelSchema.parse({ ...rest, sparse });
}

function flopsOf(sparse) {
  return sizeOfModel(new LanguageModel(optionsWith(sparse))).forwardFlopsPerToken;
}

async function trainerWith(sparse) {
  const options = trainSchema.parse({
    batchSize: shape.batchSize,
    steps: 1e6,
    threads,
    collapseWarning: false,
  });
  const model = new LanguageModel(optionsWith(sparse));
  return Trainer.create({ model, data: { train: randomBatches() }, options, seed: 1, padded: false });
}

async function timed(trainer) {
  const [began, before] = [performance.now(), process.cpuUsage()];
  const report = await trainer.update();
  const milliseconds = performance.now() - began;
  const { user, system } = process.cpuUsage(before);
  return { milliseconds, processor: (user + system) / 1000, report };
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const say = (text) => process.stderr.write(`${text}\n`);

/** Steps in turn: wall and processor times of both, and expert calls per token and layer of the second. */
async function race(first, second) {
  const [ours, theirs, calls, processors] = [[], [], [], []];
  for (let i = 0; i < warmup; i++) for (const trainer of [first, second]) await timed(trainer);
  for (let i = 0; i < pairs; i++) {
    const reference = await timed(first);
    const { milliseconds, processor, report } = await timed(second);
    ours.push(reference.milliseconds);
    theirs.push(milliseconds);
    processors.push([reference.processor, processor]);
    const rows = report.loads.flatMap((load) => [...load]).reduce((a, b) => a + b, 0);
    calls.push(rows / tokens / sizes.numLayers);
  }
  return { ours, theirs, calls, processors };
}

/** Milliseconds that one more call of an expert costs every token: twice what the second half of the width takes. */
async function callCost(plain) {
  const half = await trainerWith({ ...experts({ kind: 'softmax' }), intermediateSize: intermediateSize / 2 });
  const { ours, theirs, processors } = await race(plain, half);
  await half.release();
  return {
    milliseconds: 2 * median(ours.map((time, i) => time - theirs[i])),
    processor: 2 * median(processors.map(([whole, part]) => whole - part)),
  };
}

async function measureAll(names) {
  const switchSparse = experts({ kind: 'softmax' });
  const plain = await trainerWith(switchSparse);
  const reference = sizeOfModel(new LanguageModel(optionsWith(switchSparse)));
  let cost;
  const rows = [];
  for (const name of names) {
    const { sparse, note, requestsMore } = contestants[name];
    let options;
    try {
      options = sparse();
      optionsWith(options);
    } catch (error) {
      throw new Error(`${name}: ${error.message}`);
    }
    if (requestsMore) cost ??= await callCost(plain);
    const size = sizeOfModel(new LanguageModel(optionsWith(options)));
    const trainer = await trainerWith(options);
    const { ours, theirs, calls, processors } = await race(plain, trainer);
    await trainer.release();
    const extra = requestsMore ? median(calls) - 1 : 0;
    const more = requestsMore ? cost : { milliseconds: 0, processor: 0 };
    const ratios = theirs.map((time, i) => time / (ours[i] + extra * more.milliseconds));
    const sorted = [...ratios].sort((a, b) => a - b);
    const row = {
      name,
      ratio: median(ratios),
      processorRatio: median(processors.map(([ours, theirs]) => theirs / (ours + extra * more.processor))),
      lowQuartile: sorted[pairs >> 2],
      highQuartile: sorted[Math.min(pairs - 1, (3 * pairs) >> 2)],
      milliseconds: median(theirs),
      switchMilliseconds: median(ours),
      flopsRatio: size.forwardFlopsPerToken / reference.forwardFlopsPerToken,
      parametersRatio: size.parameters / reference.parameters,
      ...(requestsMore ? { callsPerToken: extra + 1, millisecondsPerCall: cost.milliseconds } : {}),
      ...(note ? { note } : {}),
    };
    rows.push(row);
    say(format(row));
  }
  await plain.release();
  return rows;
}

function format(row) {
  const {
    name,
    ratio,
    processorRatio,
    lowQuartile,
    highQuartile,
    milliseconds,
    switchMilliseconds,
    flopsRatio,
    callsPerToken,
    note,
  } = row;
  const calls = callsPerToken === undefined ? '' : `; ${callsPerToken.toFixed(2)} calls a token`;
  const remark = note === undefined ? '' : `  (${note}${calls})`;
  return `${name.padEnd(24)} ${ratio.toFixed(3)}  [${lowQuartile.toFixed(3)} … ${highQuartile.toFixed(3)}]  processor ${processorRatio.toFixed(3)}  ${milliseconds.toFixed(0)} ms, Switch ${switchMilliseconds.toFixed(0)} ms; FLOPs × ${flopsRatio.toFixed(3)}${remark}`;
}

/** Milliseconds a step by operator type, from ONNX Runtime's profile. */
async function profile(sparse) {
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-bench-'));
  const runs = 6;
  const model = new LanguageModel(optionsWith(sparse));
  const parameters = nameParameters(model);
  const weights = createWeights(parameters, [], 1, 2);
  const gradients = weights.trainable.like();
  const program = await StepProgram.create(model, parameters, weights.trainable, gradients, weights.frozen, {
    shape,
    padded: false,
    runtime: { threads, profile: join(folder, 'profile') },
    seed: 1,
  });
  const batches = randomBatches();
  for (let i = 0; i < runs; i++) await program.run(batches.next(), i);
  await program.release();
  const events = readdirSync(folder).flatMap((file) => JSON.parse(readFileSync(join(folder, file), 'utf8')));
  rmSync(folder, { recursive: true });
  const nodes = new Map();
  for (const { name, dur, args } of events) {
    if (!name.endsWith('_kernel_time')) continue;
    const node = nodes.get(name) ?? { operator: args.op_name, durations: [] };
    node.durations.push(dur);
    nodes.set(name, node);
  }
  const byOperator = new Map();
  for (const { operator, durations } of nodes.values()) {
    const { milliseconds = 0, count = 0 } = byOperator.get(operator) ?? {};
    byOperator.set(operator, { milliseconds: milliseconds + median(durations) / 1000, count: count + 1 });
  }
  return byOperator;
}

async function compareProfiles(name) {
  const [plain, other] = [
    await profile(experts({ kind: 'softmax' })),
    await profile(contestants[name].sparse()),
  ];
  const none = { milliseconds: 0, count: 0 };
  const rows = [...new Set([...plain.keys(), ...other.keys()])]
    .map((operator) => ({ operator, ours: plain.get(operator) ?? none, theirs: other.get(operator) ?? none }))
    .sort(
      (a, b) => b.theirs.milliseconds - b.ours.milliseconds - (a.theirs.milliseconds - a.ours.milliseconds),
    );
  const total = (side) => rows.reduce((sum, row) => sum + row[side].milliseconds, 0);
  process.stdout.write(
    `${name}: ${total('theirs').toFixed(0)} ms in operators, Switch ${total('ours').toFixed(0)} ms\n`,
  );
  for (const { operator, ours, theirs } of rows) {
    const difference = theirs.milliseconds - ours.milliseconds;
    if (Math.abs(difference) < 0.5) continue;
    process.stdout.write(
      `${operator.padEnd(24)} ${difference > 0 ? '+' : ''}${difference.toFixed(1)} ms  (${theirs.count} nodes, ${theirs.milliseconds.toFixed(1)} ms; Switch ${ours.count}, ${ours.milliseconds.toFixed(1)})\n`,
    );
  }
}

const known = Object.keys(contestants);
const names = argument('only', argument('profile', known.join(','))).split(',');
const wrong = names.find((name) => !known.includes(name));
if (wrong !== undefined) {
  say(`there is no contestant '${wrong}'; known: ${known.join(', ')}`);
  process.exitCode = 1;
} else if (process.argv.includes('--profile')) {
  for (const name of names) await compareProfiles(name);
} else {
  const rows = await measureAll(names);
  process.stdout.write(
    process.argv.includes('--json') ? `${JSON.stringify(rows)}\n` : `${rows.map(format).join('\n')}\n`,
  );
}
