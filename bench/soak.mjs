/**
 * Many requests of every kind to `switchyard serve`, and whether memory and open files of its two processes stay where they
 * are. Prints one JSON line: slopes are of a straight line through the samples after the first quarter.
 *
 *   node bench/soak.mjs [--requests 10000] [--concurrency 8] [--model FOLDER]
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { ByteTokenizer } from '../dist/data/index.js';
import { createModel, modelSchema } from '../dist/models/index.js';
import { nameParameters, ParameterArena } from '../dist/nn/index.js';
import { namedTensors, saveModelConfig, saveModelWeights } from '../dist/train/index.js';
import { argument } from './config.mjs';

const requests = Number(argument('requests', '10000'));
const concurrency = Number(argument('concurrency', '8'));
const samplesWanted = 80;
const folder = mkdtempSync(join(tmpdir(), 'switchyard-soak-'));
const model = argument('model', '') || (await smallModel(join(folder, 'model')));

const child = spawn(
  process.execPath,
  [fileURLToPath(new URL('../dist/cli/main.js', import.meta.url)), 'serve', model, '--port', '0', '--no-log'],
  { stdio: ['ignore', 'pipe', 'inherit'] },
);
const ended = new Promise((resolve) => void child.on('close', (code, signal) => resolve(code ?? signal)));
let result;
try {
  result = await soak(await address());
} finally {
  child.kill('SIGTERM');
}
const exit = await ended;
rmSync(folder, { recursive: true, force: true });
console.log(JSON.stringify({ ...result, exit }));

/** 3 layers of 8 experts, two a token, with random weights. */
async function smallModel(path) {
  const tokenizer = new ByteTokenizer({ specialTokens: true });
  const options = modelSchema.parse({
    ...{
      hiddenSize: 16,
      numHeads: 2,
      numLayers: 3,
      intermediateSize: 32,
      contextLength: 256,
      positions: 'rotary',
    },
    sparse: {
      numExperts: 8,
      topK: 2,
      every: 1,
      dispatch: { kind: 'dropless' },
      router: { kind: 'softmax', jitter: 0 },
    },
  });
  const built = createModel({ ...options, vocabSize: tokenizer.vocabSize });
  const parameters = nameParameters(built);
  const { views } = ParameterArena.allocate(parameters).initialize(parameters, 7);
  const shapes = new Map([...built.parameters()].map(([name, { shape }]) => [name, shape]));
  await saveModelConfig(path, built.options, tokenizer);
  await saveModelWeights(path, namedTensors(shapes, views));
  return path;
}

function address() {
  return new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const [, url] = /^listening on (\S+)/.exec(line) ?? [];
      if (url) resolve(url);
    });
    void ended.then((code) => reject(new Error(`the server ended with ${code}`)));
  });
}

async function soak(url) {
  const { pid } = child;
  const engine = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0]);
  const counts = {};
  const samples = [];
  const started = performance.now();
  let next = 0;
  const work = async () => {
    while (next < requests) {
      const index = next++;
      if (index % Math.max(1, Math.floor(requests / samplesWanted)) === 0)
        samples.push([index, ...footprint(pid), ...footprint(engine)]);
      const outcome = await one(url, index);
      counts[outcome] = (counts[outcome] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: concurrency }, work));
  const seconds = (performance.now() - started) / 1000;
  samples.push([requests, ...footprint(pid), ...footprint(engine)]);
  const settled = samples.slice(Math.ceil(samples.length / 4));
  const column = (at) => ({
    first: settled[0][at],
    last: settled.at(-1)[at],
    most: Math.max(...settled.map((sample) => sample[at])),
    per1000Requests: slope(settled.map((sample) => [sample[0] / 1000, sample[at]])),
  });
  return {
    ...{ requests, concurrency, seconds, requestsPerSecond: requests / seconds, outcomes: counts },
    server: { residentBytes: column(1), openFiles: column(2) },
    engine: { residentBytes: column(3), openFiles: column(4) },
  };
}

/** Resident bytes and open files of a process. */
function footprint(pid) {
  const [, kilobytes] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return [1024 * Number(kilobytes), readdirSync(`/proc/${pid}/fd`).length];
}

/** Least squares. */
function slope(points) {
  const mean = (at) => points.reduce((sum, point) => sum + point[at], 0) / points.length;
  const [x, y] = [mean(0), mean(1)];
  const top = points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0);
  return top / points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0);
}

/** A request of one of ten kinds; how it ended. */
async function one(url, index) {
  const kind = index % 10;
  const send = (body, signal) =>
    fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
      ...(signal && { signal }),
    });
  const prompt = `request ${index} of many`;
  if (kind === 7) return status(await send({ prompt, n: 99 }));
  if (kind === 8) return status(await fetch(`${url}/metrics`));
  if (kind === 9) return leave(send, prompt);
  const details = kind === 5 ? { logprobs: 2, echo: true, switchyard: { routed_experts: true } } : {};
  return status(
    await send({ prompt, max_tokens: 4, stream: kind < 4, seed: index, ignore_eos: true, ...details }),
  );
}

async function status(answer) {
  await answer.text();
  return String(answer.status);
}

/** Begins to read a stream and goes away. */
async function leave(send, prompt) {
  const leaving = new AbortController();
  try {
    const answer = await send({ prompt, max_tokens: 200, stream: true, ignore_eos: true }, leaving.signal);
    for await (const _ of answer.body) {
      leaving.abort();
    }
    return String(answer.status);
  } catch {
    return 'left';
  }
}
