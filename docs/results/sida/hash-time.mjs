/**
 * How long a text takes in the predictor and in its teacher, one text at a time, everything in memory.
 *
 *   node docs/results/sida/hash-time.mjs --experts 128 --threads 1
 */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadPredictor, PredictorProgram } from '../../../dist/serve/index.js';
import { expertCounts, taskNames } from './tasks.mjs';
import { compileTeacher, openTeacher } from './teacher.mjs';
import { predictorId } from './variants.mjs';

const { values: flags } = parseArgs({
  options: {
    experts: { type: 'string', multiple: true, default: expertCounts.map(String) },
    data: { type: 'string', default: 'data' },
    out: { type: 'string', default: 'runs/sida' },
    threads: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '40' },
  },
});
const { data, out } = flags;
const runtime = { threads: Number(flags.threads) };
const rounds = Number(flags.rounds);
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

/** Milliseconds of a call, median after a few that do not count. */
async function time(call) {
  for (let i = 0; i < 5; i++) await call();
  const taken = [];
  for (let i = 0; i < rounds; i++) {
    const start = performance.now();
    await call();
    taken.push(performance.now() - start);
  }
  return median(taken);
}

const found = [];
for (const experts of flags.experts.map(Number)) {
  for (const task of taskNames) {
    const folder = join(out, 'predictors', predictorId(task, experts, 'sida', 1));
    if (!existsSync(join(folder, 'model.safetensors'))) continue;
    const teacher = await openTeacher(task, experts, { data, out, batchSize: 1 });
    const length = teacher.shape.contextLength;
    const [{ source }] = (await teacher.open()).validation();
    const batch = { source: source.map((id) => Math.max(2, id)), sourceMask: new Uint8Array(length).fill(1) };
    const program = await compileTeacher(teacher, runtime);
    const embeddings = teacher.weights.get('embedding.weight');
    const predictor = new PredictorProgram(await loadPredictor(folder), embeddings, { batchSize: 1, topK: Math.min(3, experts), contextLength: length, runtime });
    const inference = await time(() => program.run(batch));
    const hashing = await time(() => predictor.predict([batch.source]));
    found.push({ task, experts, length, inference, hashing });
    console.log(`${task}-${experts}: ${length} tokens, predictor ${hashing.toFixed(2)} ms, teacher ${inference.toFixed(2)} ms`);
    await program.release();
    await predictor.release();
  }
}
writeFileSync(new URL('hash-time.json', import.meta.url), `${JSON.stringify({ threads: runtime.threads, found }, null, 1)}\n`);
