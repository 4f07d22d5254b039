/**
 * `npm run bench`: ours and the peers in turn, in one run, as ratios. Peers run where they are installed (see
 * bench/peers/README.md); without them only our own figures are printed.
 *
 *   npm run bench -- [--rounds 3] [--threads 2] [--python PATH] [--no-peers] [--no-routers] [--no-resmoe] [--json]
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { argument } from './config.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const rounds = Number(argument('rounds', '3'));
const threads = argument('threads', '2');
const asJson = process.argv.includes('--json');

function run(command, parameters) {
  const { stdout, stderr, status } = spawnSync(command, parameters, { encoding: 'utf8', maxBuffer: 1 << 24 });
  if (status !== 0)
    throw new Error(`${command} ${parameters.join(' ')} failed: ${stderr.trim().split('\n').at(-1)}`);
  return JSON.parse(stdout.trim().split('\n').at(-1));
}

function findPython() {
  for (const python of [argument('python', ''), here('peers/venv/bin/python'), 'python3'].filter(Boolean)) {
    if (spawnSync(python, ['-c', 'import torch, transformers']).status === 0) return python;
  }
  return undefined;
}

const ours = (what) => () => run(process.execPath, [here('step.mjs'), '--what', what, '--threads', threads]);
const python = process.argv.includes('--no-peers') ? undefined : findPython();
const torch = (what, variant) => () =>
  run(python, [
    here('peers/pytorch/bench.py'),
    '--what',
    what,
    '--variant',
    variant,
    '--threads',
    threads,
    '--json',
  ]);
const tfjs = () =>
  run(process.execPath, [here('peers/tfjs/moe-layer.mjs'), '--json', '--warmup', '1', '--repeats', '5']);
const haveTfjs =
  !process.argv.includes('--no-peers') && existsSync(here('peers/node_modules/@tensorflow/tfjs'));

const contests = {
  step: {
    ours: ours('step'),
    ...(python ? { vectorised: torch('step', 'vectorised'), loop: torch('step', 'loop') } : {}),
  },
  layer: {
    ours: ours('layer'),
    ...(python ? { vectorised: torch('layer', 'vectorised'), loop: torch('layer', 'loop') } : {}),
    ...(haveTfjs ? { 'tfjs-wasm': tfjs } : {}),
  },
};
const say = (text) => process.stderr.write(`${text}\n`);
const results = {};
for (const [what, contestants] of Object.entries(contests)) {
  const measured = Object.fromEntries(Object.keys(contestants).map((name) => [name, []]));
  for (let round = 1; round <= rounds; round++) {
    for (const [name, measure] of Object.entries(contestants)) {
      const result = measure();
      measured[name].push(result);
      say(
        `${what} round ${round}/${rounds}  ${name.padEnd(10)}  ${result.minMs.toFixed(0)} ms lowest, ${result.medianMs.toFixed(0)} median`,
      );
    }
  }
  const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
  results[what] = Object.fromEntries(
    Object.entries(measured).map(([name, list]) => [
      name,
      {
        ...list[0],
        minMs: Math.min(...list.map((one) => one.minMs)),
        medianMs: median(list.map((one) => one.medianMs)),
        ratioOfMedians: median(list.map((one, i) => one.medianMs / measured.ours[i].medianMs)),
        ratioOfMinima:
          Math.min(...list.map((one) => one.minMs)) / Math.min(...measured.ours.map((one) => one.minMs)),
      },
    ]),
  );
}
say('rate of the expert products, and memory over 2,000 steps');
results.gemm = run(process.execPath, [here('gemm.mjs'), '--threads', threads]);
results.memory = run(process.execPath, [here('memory.mjs')]);
say('tokens a second of generation, with a cache and without');
results.generate = run(process.execPath, [here('generate.mjs'), '--threads', threads]);
if (!process.argv.includes('--no-routers')) {
  say('the step with every router, as a ratio to plain Switch (--no-routers leaves it out)');
  const { stdout, status } = spawnSync(
    process.execPath,
    [here('routers.mjs'), '--threads', threads, '--json'],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
  );
  if (status !== 0) throw new Error('routers.mjs failed');
  results.routers = JSON.parse(stdout);
}
if (!process.argv.includes('--no-resmoe')) {
  say("ResMoE's assignments, alignment and factors (--no-resmoe leaves them out)");
  const { stdout, status } = spawnSync(
    process.execPath,
    [here('resmoe.mjs'), ...(process.argv.includes('--no-peers') ? ['--no-peers'] : [])],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
  );
  if (status !== 0) throw new Error('resmoe.mjs failed');
  results.resmoe = JSON.parse(stdout);
}
results.machine = {
  cpu: cpus()[0]?.model,
  cores: cpus().length,
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  node: process.version,
  commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim(),
};

if (asJson) {
  process.stdout.write(`${JSON.stringify(results)}\n`);
} else {
  const row = (cells) => cells.map((cell, i) => (i === 0 ? cell.padEnd(28) : cell.padStart(14))).join('');
  const lines = [row(['', 'lowest ms', 'median ms', 'tokens/s', 'peer / ours'])];
  for (const what of ['step', 'layer']) {
    for (const [name, r] of Object.entries(results[what])) {
      const ratio = name === 'ours' ? '' : `${r.ratioOfMedians.toFixed(2)} (${r.ratioOfMinima.toFixed(2)})`;
      lines.push(
        row([
          `${what}  ${name}`,
          r.minMs.toFixed(0),
          r.medianMs.toFixed(0),
          r.tokensPerSecond.toFixed(0),
          ratio,
        ]),
      );
    }
  }
  const { sessionMs, optimizerMs, dataMs, medianMs } = results.step.ours;
  lines.push(
    '',
    `our step                    session ${sessionMs.toFixed(0)} ms, optimiser ${optimizerMs.toFixed(0)} ms (${((100 * optimizerMs) / medianMs).toFixed(1)} %), data ${dataMs.toFixed(1)} ms`,
    `expert products             ${results.gemm.expertGflops.toFixed(0)} of ${results.gemm.bestGflops.toFixed(0)} GFLOP/s (${(100 * results.gemm.share).toFixed(0)} %)`,
    `products and AdamW's bytes  ${(results.gemm.productMs + results.gemm.optimizerFloorMs).toFixed(0)} ms of a step as they run here; ${results.gemm.floorMs.toFixed(0)} ms if all ran at the best rate`,
    `memory                      ${(results.memory.rssAfter100 / 1e6).toFixed(0)} MB after 100 steps, ${(results.memory.rssAfterAll / 1e6).toFixed(0)} MB after ${results.memory.steps}; ${results.memory.sessions} sessions, ${results.memory.sessionsOpenedLater} of them after the first step`,
    `generation                  ${results.generate.cached.medianMs.toFixed(1)} ms a token (${results.generate.cached.tokensPerSecond.toFixed(0)} a second), floor of its weights' bytes ${results.generate.floorMs.toFixed(1)} ms; the whole window every time ${results.generate.window.medianMs.toFixed(0)} ms; 8 texts together ${results.generate.batch8.tokensPerSecond.toFixed(0)} tokens a second`,
    '',
    ...(results.routers ?? []).map(
      ({ name, ratio, flopsRatio }) =>
        `${name.padEnd(28)}${ratio.toFixed(2)} × the Switch step, FLOPs × ${flopsRatio.toFixed(2)}`,
    ),
    '',
    ...(results.resmoe?.solver ?? []).map(({ size, kind, seconds, ratio }) =>
      `assignment ${size} ${kind}`
        .padEnd(48)
        .concat(`${seconds.toFixed(3)} s${ratio ? `, scipy / ours ${ratio.toFixed(2)}` : ''}`),
    ),
    ...(results.resmoe?.layer ?? []).map(({ kind, alignSeconds, svdSeconds, pruneSeconds, ratio }) =>
      `8 experts of 3072 × 1536 ${kind}`
        .padEnd(60)
        .concat(
          `aligned ${alignSeconds.toFixed(1)} s, SVD ${svdSeconds.toFixed(1)} s, pruned ${pruneSeconds.toFixed(1)} s`,
          ratio
            ? `; POT and NumPy / ours ${ratio.alignAndSvd.toFixed(2)} with SVD, ${ratio.alignAndPrune.toFixed(2)} pruned`
            : '',
        ),
    ),
    '',
    'peer / ours: ratio of medians of paired rounds (ratio of lowest times); above 1 means that we are faster.',
  );
  process.stdout.write(`${lines.join('\n')}\n`);
}
