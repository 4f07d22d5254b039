/**
 * ResMoE's arithmetic: the assignment solver against scipy's, a layer of Switch-base's size aligned and decomposed against
 * POT and NumPy, and one iteration on a layer of Mixtral's size beside its floor. A part of `npm run bench` where the peers
 * are installed (bench/peers/README.md); by itself:
 *
 *   node bench/resmoe.mjs [--what solver,layer,mixtral] [--python PATH] [--sizes 3072,8192] [--no-peers]
 *     [--trained FOLDER,FOLDER]   runs or model folders: the first experts of theirs beside the made ones
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { designBlocks } from '../dist/checkpoints/index.js';
import { centreKinds, matrixCompressors } from '../dist/compress/index.js';
import { input, matmul } from '../dist/graph/index.js';
import { AssignmentSolver } from '../dist/metrics/index.js';
import { createKind } from '../dist/moe/index.js';
import { fillNormal, RandomStream, streamKey } from '../dist/nn/index.js';
import { compile } from '../dist/runtime/index.js';
import { loadModel } from '../dist/train/index.js';
import { argument } from './config.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const say = (text) => process.stderr.write(`${text}\n`);
const wanted = argument('what', 'solver,layer').split(',');
const venv = here('peers/resmoe/venv/bin/python');
const python = [argument('python', ''), venv, 'python3'].find(
  (command) =>
    !process.argv.includes('--no-peers') &&
    command &&
    spawnSync(command, ['-c', 'import ot, scipy']).status === 0,
);
const folder = mkdtempSync(join(tmpdir(), 'switchyard-resmoe-'));
const results = {};

function peer(script, options) {
  if (!python) return undefined;
  const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const { stdout, stderr, status } = spawnSync(python, [here(`peers/resmoe/${script}.py`), ...flags], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`${script}.py failed: ${stderr.trim().split('\n').at(-1)}`);
  return JSON.parse(stdout.trim().split('\n').at(-1));
}

const timed = async (work) => {
  const began = performance.now();
  const value = await work();
  return { value, seconds: (performance.now() - began) / 1000 };
};

/** Seconds spent in assignments: all of the solver, whoever calls it. */
let assignmentSeconds = 0;
const { solve } = AssignmentSolver.prototype;
AssignmentSolver.prototype.solve = function (start) {
  const began = performance.now();
  const solution = solve.call(this, start);
  assignmentSeconds += (performance.now() - began) / 1000;
  return solution;
};

function randomOrder(length, key) {
  const order = Int32Array.from({ length }, (_, i) => i);
  const random = new RandomStream(key);
  for (let i = length - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** A layer whose experts lie one after another, `[numExperts, rows, 2 · hiddenSize]`. */
function layerOf(all, numExperts, rows, hiddenSize) {
  const width = 2 * hiddenSize;
  const view = (expert) => all.subarray(expert * rows * width, (expert + 1) * rows * width);
  return {
    ...{ name: 'bench', numExperts, hiddenSize, intermediateSize: rows, all, view },
    blocks: designBlocks({ hiddenSize, roles: ['up', 'down'] }),
    readDesign: async (expert, into = new Float32Array(rows * width)) => {
      into.set(view(expert));
      return into;
    },
  };
}

/** The first layer of experts of a trained model, without biases. */
async function trainedLayer(path) {
  const { model, weights } = await loadModel(path);
  const [bank, up] = [...weights].find(([name]) => name.endsWith('.experts.up')) ?? [];
  if (!bank) throw new Error(`${path} has no layer of experts with weights up and down`);
  const down = weights.get(bank.replace(/up$/, 'down'));
  const { hiddenSize } = model.options;
  const [numExperts, , rows] = [...model.parameters()].find(([name]) => name === bank)[1].shape;
  const all = new Float32Array(numExperts * rows * 2 * hiddenSize);
  for (let expert = 0; expert < numExperts; expert++)
    for (let row = 0; row < rows; row++) {
      const to = (expert * rows + row) * 2 * hiddenSize;
      for (let i = 0; i < hiddenSize; i++) all[to + i] = up[(expert * hiddenSize + i) * rows + row];
      const from = (expert * rows + row) * hiddenSize;
      all.set(down.subarray(from, from + hiddenSize), to + hiddenSize);
    }
  return layerOf(all, numExperts, rows, hiddenSize);
}

/** Experts in memory: a common ancestor and as much noise, or nothing in common; neurons in random order. */
function makeLayer(numExperts, rows, hiddenSize, spread) {
  const width = 2 * hiddenSize;
  const ancestor = new Float32Array(rows * width);
  if (spread !== Infinity) fillNormal(streamKey('ancestor'), ancestor);
  const all = new Float32Array(numExperts * rows * width);
  for (let expert = 0; expert < numExperts; expert++) {
    const own = new Float32Array(rows * width);
    fillNormal(streamKey('expert', expert), own, spread === Infinity ? 1 : spread);
    const order = randomOrder(rows, streamKey('order', expert));
    for (let row = 0; row < rows; row++) {
      const to = (expert * rows + row) * width;
      for (let column = 0; column < width; column++)
        all[to + column] = ancestor[order[row] * width + column] + own[order[row] * width + column];
    }
  }
  return layerOf(all, numExperts, rows, hiddenSize);
}

/** Best rate of a product of these sizes, FLOP a second. */
async function productRate(rows, width, columns) {
  const [a, b] = [input('a', 'float32', [rows, width]), input('b', 'float32', [columns, width])];
  const program = await compile({ y: matmul(a, b, { transposeB: true }) });
  program.bind({
    a: new Float32Array(rows * width).fill(0.5),
    b: new Float32Array(columns * width).fill(0.5),
  });
  let best = Infinity;
  for (let i = 0; i < 3; i++) best = Math.min(best, (await timed(() => program.run())).seconds);
  await program.release();
  return (2 * rows * width * columns) / best;
}

/** Squared distances of the neurons of a layer's first two experts. */
async function expertCosts(layer, costs) {
  const size = layer.intermediateSize;
  const width = 2 * layer.hiddenSize;
  const program = await compile({
    products: matmul(input('a', 'float32', [size, width]), input('b', 'float32', [size, width]), {
      transposeB: true,
      scale: -2,
    }),
  });
  const { products } = await program.run({ a: layer.view(0), b: layer.view(1) });
  const squares = [0, 1].map((expert) =>
    Float64Array.from({ length: size }, (_, row) =>
      layer
        .view(expert)
        .subarray(row * width, (row + 1) * width)
        .reduce((total, x) => total + x * x, 0),
    ),
  );
  for (let i = 0; i < size; i++)
    for (let j = 0; j < size; j++)
      costs[i * size + j] = squares[0][i] + squares[1][j] + products[i * size + j];
  await program.release();
}

async function benchSolver() {
  const rows = [];
  const made = argument('sizes', '3072,8192')
    .split(',')
    .map(Number)
    .flatMap((size) => [
      { kind: 'uniform random', size },
      { kind: 'experts near an ancestor', size, layer: () => makeLayer(2, size, 768, 0.5) },
      { kind: 'experts far from it', size, layer: () => makeLayer(2, size, 768, 4) },
      { kind: 'experts without one', size, layer: () => makeLayer(2, size, 768, Infinity) },
    ]);
  const real = trained.map((layer) => ({
    ...{ kind: `trained experts, width ${2 * layer.hiddenSize}`, size: layer.intermediateSize },
    layer: () => layer,
  }));
  for (const { kind, size, layer } of [...made, ...real]) {
    const solver = new AssignmentSolver(size);
    if (layer) await expertCosts(layer(), solver.costs);
    else {
      const random = new RandomStream(streamKey('costs', size));
      for (let i = 0; i < solver.costs.length; i++) solver.costs[i] = random.uniform();
    }
    const runs = [];
    for (let i = 0; i < 3; i++) runs.push(await timed(() => solver.solve()));
    const seconds = Math.min(...runs.map((run) => run.seconds));
    const { columnOf } = runs[0].value;
    const total = columnOf.reduce((sum, column, row) => sum + solver.costs[row * size + column], 0);
    const file = join(folder, 'costs');
    writeFileSync(file, solver.costs);
    const other = peer('solver', { file, size, repeats: size > 4000 ? 1 : 3 });
    rows.push({ size, kind, seconds, total, peer: other, ratio: other && other.seconds / seconds });
    say(
      `${size} ${kind.padEnd(26)} ours ${seconds.toFixed(3)} s` +
        (other
          ? `, scipy ${other.seconds.toFixed(3)} s: ${(other.seconds / seconds).toFixed(2)}; totals differ by ${(total / other.total - 1).toExponential(1)}`
          : ''),
    );
  }
  return rows;
}

const find = (layer, options) =>
  createKind(centreKinds, { kind: 'barycenter', initialExpert: 0, maxIterations: 100, ...options }).find(
    layer,
  );

async function benchLayer() {
  const rows = [];
  const made = [
    { kind: 'near a common ancestor', maxIterations: 100, layer: () => makeLayer(8, 3072, 768, 0.5) },
    { kind: 'without one, two iterations', maxIterations: 2, layer: () => makeLayer(8, 3072, 768, Infinity) },
  ];
  const real = trained
    .filter(({ intermediateSize, hiddenSize }) => intermediateSize === 3072 && hiddenSize === 768)
    .map((layer) => ({ kind: 'trained, two iterations', maxIterations: 2, layer: () => layer }));
  for (const { kind, maxIterations, layer: make } of [...made, ...real]) {
    const layer = make();
    const { numExperts } = layer;
    assignmentSeconds = 0;
    const aligned = await timed(() => find(layer, { maxIterations }));
    const { centre, permutations, objective } = aligned.value;
    const inAssignments = assignmentSeconds;
    const residuals = permutations.map((order, expert) => {
      const design = layer.view(expert);
      const residual = new Float32Array(centre.length);
      order.forEach((from, to) => {
        for (let i = 0; i < 1536; i++)
          residual[to * 1536 + i] = design[from * 1536 + i] - centre[to * 1536 + i];
      });
      return { rows: 3072, blocks: layer.blocks, values: residual };
    });
    const decompose = async (name) => {
      const compressor = matrixCompressors[name]('concat');
      const small = [];
      const { seconds } = await timed(async () => {
        for (const residual of residuals) small.push(await compressor.compress(residual, 0.25, 1));
      });
      await compressor.release();
      return { seconds, first: small[0] };
    };
    const svd = await decompose('svd');
    const up = await decompose('up');
    const file = join(folder, 'experts');
    writeFileSync(file, layer.all);
    const other = peer('layer', { file, experts: numExperts, rows: 3072, iterations: maxIterations });
    const result = {
      kind,
      alignSeconds: aligned.seconds,
      assignmentSeconds: inAssignments,
      iterations: objective.length,
      svdSeconds: svd.seconds,
      pruneSeconds: up.seconds,
      objective: objective.at(-1),
      svdBound: svd.first.truncationExcess,
      peer: other,
    };
    if (other) {
      result.ratio = {
        align: other.alignSeconds / aligned.seconds,
        svd: other.svdSeconds / svd.seconds,
        prune: other.pruneSeconds / up.seconds,
        alignAndSvd: (other.alignSeconds + other.svdSeconds) / (aligned.seconds + svd.seconds),
        alignAndPrune: (other.alignSeconds + other.pruneSeconds) / (aligned.seconds + up.seconds),
      };
      result.objectiveDifference = result.objective / other.objective - 1;
      result.svdExcess = Math.sqrt(svd.first.error / other.svdError) - 1;
      result.pruneDifference = up.first.error / other.pruneError - 1;
    }
    rows.push(result);
    say(JSON.stringify(result));
  }
  return rows;
}

/** Mixtral's experts from a seed, one at a time: an ancestor, noise of half its size, neurons in random order. */
function mixtralLayer() {
  const [rows, hiddenSize, width] = [14336, 4096, 12288];
  const fill = (into, seed, scale, add) => {
    // A linear congruence is random enough for a benchmark, and as fast as memory.
    let state = streamKey(seed) | 1;
    for (let i = 0; i < into.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      const noise = (state / 2 ** 31) * scale;
      into[i] = add ? into[i] + noise : noise;
    }
  };
  const ancestor = new Float32Array(rows * width);
  fill(ancestor, 'ancestor', 1, false);
  return {
    ...{ name: 'mixtral', numExperts: 8, hiddenSize, intermediateSize: rows },
    blocks: designBlocks({ hiddenSize, roles: ['gate', 'up', 'down'] }),
    readDesign: async (expert, into = new Float32Array(rows * width)) => {
      randomOrder(rows, streamKey('order', expert)).forEach((from, to) =>
        into.set(ancestor.subarray(from * width, (from + 1) * width), to * width),
      );
      fill(into, `expert ${expert}`, 0.5, true);
      return into;
    },
  };
}

async function benchMixtral() {
  const layer = mixtralLayer();
  const [rows, width] = [14336, 12288];
  const rate = await productRate(1024, width, 4096);
  assignmentSeconds = 0;
  const iteration = await timed(() =>
    createKind(centreKinds, { kind: 'barycenter', initialExpert: 0, maxIterations: 1 }).find(
      layer,
      ({ done }) => say(`expert ${done}/8`),
    ),
  );
  const flops = 8 * 2 * rows * rows * width;
  const inAssignments = assignmentSeconds;
  const design = await layer.readDesign(1);
  const compressor = matrixCompressors.up('concat');
  const pruned = await timed(() =>
    compressor.compress({ rows, blocks: layer.blocks, values: design }, 0.25, 1),
  );
  const result = {
    iterationSeconds: iteration.seconds,
    assignmentSeconds: inAssignments,
    productFloorSeconds: flops / rate,
    gflops: rate / 1e9,
    pruneSecondsOfAll: 8 * pruned.seconds,
    residualShare:
      iteration.value.residuals.reduce((a, b) => a + b) / iteration.value.energies.reduce((a, b) => a + b),
    peakRssGB: process.resourceUsage().maxRSS / 1e6,
  };
  say(JSON.stringify(result));
  return result;
}

const trained = [];
try {
  for (const path of argument('trained', '').split(',').filter(Boolean))
    trained.push(await trainedLayer(path));
  if (!python && !wanted.includes('mixtral')) say('no python3 with POT and scipy: ours alone');
  if (wanted.includes('solver')) results.solver = await benchSolver();
  if (wanted.includes('layer')) results.layer = await benchLayer();
  if (wanted.includes('mixtral')) results.mixtral = await benchMixtral();
} finally {
  rmSync(folder, { recursive: true });
}
process.stdout.write(`${JSON.stringify(results)}\n`);
