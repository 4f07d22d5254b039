/**
 * A model of 14.5 GB under budgets of a tenth to three quarters of it: throughput, latency and hits of every way to hold its
 * experts, on routing that was recorded from trained models.
 *
 *   node bench/sida.mjs [--traces FOLDER] [--out docs/results/sida] [--folder /tmp/switchyard-sida] [--small] [--keep]
 *                       [--only mode,mode] [--budgets 0.25,0.5] [--tasks sst2] [--limit SECONDS] [--fresh]
 *                       [--experts 8]
 *
 * `--traces`: what `docs/results/sida/record-traces.mjs` writes; Zipf's law without. `--small`: a model of 13 MB, for a
 * test. `--experts`: so many in each layer, instead of 128. Every case runs in a process of its own and is written down when
 * it ends; what is written down is not run again unless `--fresh`. `--keep` leaves the model on the disk. The whole takes
 * about a quarter of an hour.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { argument } from './config.mjs';
import { measureDisk, modes, runCase } from './sida/case.mjs';
import { generate, sizes } from './sida/model.mjs';
import { plotOf, tableOf } from './sida/report.mjs';

const asked = argument('case', '');
if (asked) {
  const { what, ...rest } = JSON.parse(asked);
  const result = what === 'disk' ? await measureDisk(rest) : await runCase(rest);
  process.stdout.write(`${JSON.stringify(result)}\n`);
  process.exit(0);
}

const has = (flag) => process.argv.includes(`--${flag}`);
const small = has('small');
const chosen = small ? sizes.small : sizes.whole;
const numExperts = Number(argument('experts', String(chosen.numExperts)));
const size = { ...chosen, numExperts };
const name = small
  ? 'system-small'
  : `system${numExperts === chosen.numExperts ? '' : `-${numExperts}-experts`}`;
const folder = resolve(argument('folder', join(tmpdir(), `switchyard-sida-${name}`)));
const out = resolve(argument('out', 'docs/results/sida'));
const traces = argument('traces', '') && resolve(argument('traces', ''));
const limit = Number(argument('limit', small ? '0.5' : '6'));
const only = argument('only', '') && argument('only', '').split(',');
const recordFile = join(out, `${name}.json`);
const say = (text) => process.stderr.write(`${text}\n`);

const expertBytes = 2 * 4 * size.hiddenSize * size.intermediateSize;
const experts = (size.numEncoderLayers / 2) * size.numExperts;
const model = { ...size, experts, expertBytes: expertBytes * experts };

const budgets = argument('budgets', small ? '0.4' : '0.25,0.5,0.1,0.75')
  .split(',')
  .map(Number);
const tasks = argument('tasks', traces ? 'sst2,mrpc,multirc' : 'zipf').split(',');

/** The cases, those that others are compared with first. */
function casesOf() {
  const [first, ...others] = tasks.filter(
    (task) => !traces || existsSync(join(traces, `${task}-${size.numExperts}.jsonl`)),
  );
  // Twice, as the processors are not as fast in every minute either: the better one is what others are compared with.
  const resident = (task) => [1, 2].map((time) => ({ task, mode: 'resident', budget: 1, time }));
  const [before, after] = resident(first);
  const list = [before];
  for (const budget of budgets) {
    // What does not change much with the budget is measured at one.
    const names = Object.keys(modes).filter(
      (mode) => mode !== 'resident' && (budget === budgets[0] || !/oracle|three|ResMoE/.test(mode)),
    );
    list.push(...names.map((mode) => ({ task: first, mode, budget })));
  }
  list.push(after);
  for (const task of others) {
    const [before, after] = resident(task);
    list.push(
      before,
      ...['lru', 'belady', 'prefetch', 'sida', 'prefetch by an oracle'].map((mode) => ({
        task,
        mode,
        budget: 0.25,
      })),
      after,
    );
  }
  return list.filter(({ mode }) => !only || only.includes(mode));
}

function child(request) {
  const script = fileURLToPath(import.meta.url);
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [script, '--case', JSON.stringify(request)],
    {
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
      timeout: 120_000,
    },
  );
  if (status !== 0)
    return { failed: stderr.trim().split('\n').slice(-3).join(' ') || 'it took more than two minutes' };
  return JSON.parse(stdout.trim().split('\n').at(-1));
}

function save(record) {
  mkdirSync(out, { recursive: true });
  writeFileSync(`${recordFile}.tmp`, `${JSON.stringify(record, undefined, 1)}\n`);
  renameSync(`${recordFile}.tmp`, recordFile);
}

const record =
  existsSync(recordFile) && !has('fresh')
    ? JSON.parse(readFileSync(recordFile, 'utf8'))
    : {
        date: new Date().toISOString().slice(0, 10),
        machine: `${cpus().length} processors (${cpus()[0].model})`,
        model,
        cases: [],
      };
if (record.cases.some(({ diskBytesPerSecond }) => !diskBytesPerSecond))
  throw new Error(`${recordFile} does not say how fast the disk was: begin anew with --fresh`);
const idOf = ({ task, mode, budget, time = 1 }) => `${task} ${mode} ${budget} ${time}`;
const todo = casesOf().filter((one) => !record.cases.some((other) => idOf(other) === idOf(one)));

try {
  const wrote = await generate(folder, size, say);
  if (wrote > 0) say(`model of ${(model.expertBytes / 1e9).toFixed(2)} GB written in ${wrote.toFixed(0)} s`);
  // A disk that others share does not give the same from minute to minute: it is measured between all cases.
  const measured = () => {
    const disk = child({ what: 'disk', folder, limit: small ? 0.2 : 1.5 });
    if (disk.failed) throw new Error(disk.failed);
    record.pageCache = disk.pageCache;
    return disk.bytesPerSecond;
  };
  let before = todo.length > 0 ? measured() : 0;
  for (const one of todo) {
    const needed =
      (one.mode === 'resident' ? 1 : one.mode === 'ResMoE resident' ? 0.3 : one.budget) * model.expertBytes +
      1.5e9;
    if (process.availableMemory() < needed && !small) {
      say(
        `${idOf(one)}: left out, ${(process.availableMemory() / 1e9).toFixed(1)} GB of memory are free and ${(needed / 1e9).toFixed(1)} needed`,
      );
      continue;
    }
    const result = child({ folder, traces, ...one, limit, most: 60, ...(small ? { warmUp: 20 } : {}) });
    const after = measured();
    record.cases.push({ ...one, diskBytesPerSecond: { before, after }, result });
    before = after;
    save(record);
    const { textsPerSecond, hitRate, failed, skipped, caseSeconds } = result;
    say(
      `${idOf(one).padEnd(32)} ${failed ?? skipped ?? `${textsPerSecond.toFixed(2)} texts/s, hits ${hitRate === undefined ? '–' : (100 * hitRate).toFixed(1)} %, ${caseSeconds.toFixed(0)} s in all`}; disk ${(after / 1e9).toFixed(2)} GB/s`,
    );
  }
} finally {
  if (!has('keep')) rmSync(folder, { recursive: true, force: true });
}
writeFileSync(join(out, `${name}.md`), tableOf(record));
writeFileSync(join(out, `${name}.svg`), plotOf(record));
say(`${join(out, name)}.{json,md,svg}`);
