/**
 * Decoding one text with a model of OLMoE's shape (64 experts a layer, 8 a token, width 2048, experts of 1024; fewer layers
 * and a smaller vocabulary, so that it fits), everything in memory: tokens a second, what part of the memory's measured rate
 * the weights of a token are read at, and the same weights in transformers (float32) and llama.cpp (Q4_0, Q8_0).
 *
 *   node bench/decode.mjs [--what fp32,int8,int4] [--layers 2] [--tokens 48] [--threads 2] [--folder PATH]
 *                         [--python PATH] [--llama PATH] [--no-spin] [--json]
 *
 * --python  a Python with bench/peers/decode/requirements.txt: runs transformers, and writes the GGUF file
 * --llama   a folder where `npm install --ignore-scripts node-llama-cpp` was run
 * --no-spin threads sleep instead of spinning while they wait for each other during a run (on a busy machine)
 * --folder  where the checkpoint is kept (3.5 GB for 2 layers); it is made if it is not there
 *
 * Every contestant is a process of its own, one after another, with 2 layers and both peers about 3 minutes on a quiet
 * machine once the checkpoint is there.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { argument, quantiles } from './config.mjs';
import { activeWeights, makeModel } from './decode-model.mjs';
import { measureReadRate } from './read-rate.mjs';

const layers = Number(argument('layers', '2'));
const tokens = Number(argument('tokens', '48'));
const threads = Number(argument('threads', '2'));
const folder = argument('folder', join(tmpdir(), `switchyard-decode-${layers}`));
const child = argument('child', '');
const prompt = Array.from({ length: 16 }, (_, i) => (31 * i + 7) % 8192);

/** Bytes of a weight: blocks of 32 have a scale of 4 bytes here, of 2 in GGUF. */
const bytesPerWeight = { fp32: 4, int8: 1.125, int4: 0.625 };
const ggufType = { int8: 'Q8_0', int4: 'Q4_0' };

/** One contestant of ours; prints one JSON line. */
async function decode(what) {
  const { CachedWriter, Generator } = await import('../dist/decode/index.js');
  const { Program } = await import('../dist/runtime/index.js');
  const { loadServedModel } = await import('../dist/serve/index.js');
  const began = performance.now();
  const bits = what === 'fp32' ? undefined : Number(what.slice(3));
  const runtime = { threads, spinWhileRunning: !process.argv.includes('--no-spin') };
  const served = await loadServedModel(folder, { expertBits: bits, denseBits: bits, runtime });
  const generator = new Generator(new CachedWriter(served.model, served.passes));
  const settings = { maxTokens: tokens + 1, temperature: 0, topK: 0, topP: 1, seed: 1 };
  await generator.complete([prompt], { ...settings, maxTokens: 3 });
  const openSeconds = (performance.now() - began) / 1000;

  // Which time is the experts', which that of the programs between them; the rest is this process's own.
  const spent = { experts: 0, dense: 0 };
  const run = Program.prototype.run;
  Program.prototype.run = async function (feeds) {
    const start = performance.now();
    const results = await run.call(this, feeds);
    const isExpert = this.feedNames.includes('columns') || this.feedNames[0] === 'rows';
    spent[isExpert ? 'experts' : 'dense'] += performance.now() - start;
    return results;
  };
  const times = [];
  const written = [];
  let last;
  for await (const { kind, id } of generator.stream([prompt], settings)) {
    if (kind !== 'token') continue;
    written.push(id);
    const now = performance.now();
    if (last === undefined) spent.experts = spent.dense = 0;
    else times.push(now - last);
    last = now;
  }
  const total = times.reduce((sum, ms) => sum + ms, 0);
  const share = (ms) => ms / total;
  await served.close();
  console.log(
    JSON.stringify({
      ...quantiles(times),
      tokens: written.slice(0, 8),
      shares: {
        experts: share(spent.experts),
        dense: share(spent.dense),
        rest: 1 - share(spent.experts + spent.dense),
      },
      openSeconds,
      rssBytes: process.memoryUsage().rss,
    }),
  );
}

function run(command, parameters) {
  const { stdout, stderr, status } = spawnSync(command, parameters, { encoding: 'utf8', maxBuffer: 1 << 24 });
  if (status !== 0)
    throw new Error(
      `${command} ${parameters.join(' ')} failed: ${stderr.trim().split('\n').slice(-3).join(' ')}`,
    );
  return JSON.parse(stdout.trim().split('\n').at(-1));
}

if (child) {
  await decode(child);
  process.exit();
}
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const say = (text) => process.stderr.write(`${text}\n`);
const python = argument('python', '');
const llama = argument('llama', '');
if (!existsSync(folder)) say(`making ${folder}`);
await makeModel(folder, layers);

const common = ['--tokens', String(tokens), '--threads', String(threads)];
const noSpin = process.argv.includes('--no-spin') ? ['--no-spin'] : [];
const rates = [await measureReadRate({ threads })];
const results = {};
const { experts, dense } = activeWeights(layers);
for (const what of argument('what', 'fp32,int8,int4').split(',')) {
  if (!(what in bytesPerWeight)) throw new Error(`--what knows fp32, int8 and int4, not '${what}'`);
  say(`ours, ${what}`);
  const ours = run(process.execPath, [
    here('decode.mjs'),
    '--child',
    what,
    '--layers',
    String(layers),
    '--folder',
    folder,
    ...common,
    ...noSpin,
  ]);
  const result = { activeBytes: bytesPerWeight[what] * (experts + dense), ours };
  if (what === 'fp32' && python) {
    say('transformers, float32');
    result.peer = {
      name: 'transformers',
      ...run(python, [here('peers/decode/transformers_decode.py'), folder, ...common]),
    };
    result.sameTokens = JSON.stringify(result.peer.tokens) === JSON.stringify(ours.tokens);
  }
  if (what in ggufType && llama) {
    const type = ggufType[what];
    const file = `${folder}.${type}.gguf`;
    if (!existsSync(file)) {
      if (!python) throw new Error(`--python is needed to write ${file}`);
      say(`writing ${file}`);
      const { status, stderr } = spawnSync(
        python,
        [here('peers/decode/make_gguf.py'), folder, file, '--type', type],
        { encoding: 'utf8' },
      );
      if (status !== 0) throw new Error(`no GGUF file: ${stderr.trim().split('\n').at(-1)}`);
    }
    say(`llama.cpp, ${type}`);
    result.peer = {
      name: `llama.cpp ${type}`,
      ...run(process.execPath, [here('peers/decode/llama.mjs'), file, '--llama', llama, ...common]),
    };
  }
  results[what] = result;
}
rates.push(await measureReadRate({ threads }));
const bytesPerSecond = Math.max(...rates);
for (const result of Object.values(results)) {
  result.floorMs = (1000 * result.activeBytes) / bytesPerSecond;
  result.bandwidthShare = result.floorMs / result.ours.medianMs;
  result.bestBandwidthShare = result.floorMs / result.ours.minMs;
  if (result.peer) {
    result.ratio = result.peer.medianMs / result.ours.medianMs;
    result.ratioOfMinima = result.peer.minMs / result.ours.minMs;
  }
}
if (process.argv.includes('--json')) {
  console.log(JSON.stringify({ layers, threads, bytesPerSecond, results }));
} else {
  const percent = (share) => `${(100 * share).toFixed(0)} %`;
  console.log(`${layers} layers, ${threads} threads; memory reads ${(bytesPerSecond / 1e9).toFixed(1)} GB/s`);
  for (const [
    what,
    {
      ours,
      peer,
      activeBytes,
      floorMs,
      bandwidthShare,
      bestBandwidthShare,
      ratio,
      ratioOfMinima,
      sameTokens,
    },
  ] of Object.entries(results)) {
    const { shares } = ours;
    console.log(
      `${what}  ${ours.medianMs.toFixed(1)} ms a token (lowest ${ours.minMs.toFixed(1)}), ${(1000 / ours.medianMs).toFixed(1)} tokens/s; ` +
        `${(activeBytes / 1e6).toFixed(0)} MB of weights need ${floorMs.toFixed(1)} ms: ${percent(bandwidthShare)} of the memory's rate (lowest ${percent(bestBandwidthShare)}); ` +
        `experts ${percent(shares.experts)}, other products and attention ${percent(shares.dense)}, rest ${percent(shares.rest)} of the time; ` +
        `opened in ${ours.openSeconds.toFixed(0)} s, ${(ours.rssBytes / 1e9).toFixed(1)} GB resident`,
    );
    if (peer) {
      const tokensNote = sameTokens === undefined ? '' : sameTokens ? ', same tokens' : ', OTHER TOKENS';
      console.log(
        `      ${peer.name}: ${peer.medianMs.toFixed(1)} ms (lowest ${peer.minMs.toFixed(1)}): ${ratio.toFixed(2)} times ours (lowest ${ratioOfMinima.toFixed(2)})${tokensNote}`,
      );
    }
  }
}
