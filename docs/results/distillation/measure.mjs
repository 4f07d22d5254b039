/**
 * Switch Transformer's claim that a dense student keeps part of what a sparse teacher gains (arXiv 2101.03961 §4.2), on the
 * demo's model and data. Of each seed: a dense model and a Switch teacher, students of that teacher, and a control that
 * starts from the dense model's weights, so that what a head start alone is worth can be told apart.
 *
 *   npm run build && node docs/results/distillation/measure.mjs [--out runs/distillation] [--seeds 1,2,3] [--steps 500]
 *
 * A run that is recorded already is not run again. Writes seed<n>.json and table.md beside this file.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: 'runs/distillation' },
    seeds: { type: 'string', default: '1,2,3' },
    steps: { type: 'string', default: '500' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  process.stdout.write(readFileSync(fileURLToPath(import.meta.url), 'utf8').split('*/')[0].slice(4));
  process.exit(0);
}

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const program = here('../../../dist/cli/main.js');

/** In the order in which they can run: a student comes after its teacher. */
const runs = {
  dense: { recipe: 'demo', set: { 'model.sparse': null } },
  teacher: { recipe: 'demo', set: {} },
  'logits only': { recipe: 'demo-distilled', of: 'teacher', initialize: false, softWeight: 0.25 },
  'weights only': { recipe: 'demo-distilled', of: 'teacher', initialize: true, softWeight: 0 },
  'weights and 0.25 soft': { recipe: 'demo-distilled', of: 'teacher', initialize: true, softWeight: 0.25 },
  'weights and 0.25 soft of dense': {
    recipe: 'demo-distilled',
    of: 'dense',
    initialize: true,
    softWeight: 0.25,
  },
};

function train(name, seed) {
  const { recipe, of, initialize, softWeight, set = {} } = runs[name];
  const folder = (run) => join(values.out, `${run.replaceAll(' ', '-')}-seed${seed}`);
  const settings = {
    seed,
    'train.steps': Number(values.steps),
    ...set,
    ...(of && {
      'train.distillation.teacher': folder(of),
      'train.distillation.softWeight': softWeight,
      'train.distillation.initialize': initialize,
    }),
  };
  const sets = Object.entries(settings).flatMap(([key, value]) => ['--set', `${key}=${value}`]);
  const resumed = existsSync(folder(name)) ? ['--resume'] : [recipe, ...sets];
  const printed = execFileSync(
    process.execPath,
    [program, 'train', ...resumed, '--out', folder(name), '--json'],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 26 },
  );
  return { settings, ...JSON.parse(printed.trim().split('\n').at(-1)) };
}

const seeds = values.seeds.split(',').map(Number);
const records = new Map();
mkdirSync(values.out, { recursive: true });
for (const seed of seeds) {
  const path = here(`seed${seed}.json`);
  const record = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {};
  for (const name of Object.keys(runs)) {
    if (record[name]) continue;
    record[name] = train(name, seed);
    writeFileSync(`${path}.part`, `${JSON.stringify(record, undefined, 1)}\n`);
    renameSync(`${path}.part`, path);
  }
  records.set(seed, record);
}

const round = (number, digits = 4) => number.toFixed(digits);
const mean = (numbers) => numbers.reduce((total, x) => total + x, 0) / numbers.length;
const deviation = (numbers) =>
  Math.sqrt(numbers.reduce((total, x) => total + (x - mean(numbers)) ** 2, 0) / (numbers.length - 1));
const lossOf = (record, name) => record[name].validation.loss;
const lines = Object.keys(runs).map((name) => {
  const all = [...records.values()];
  const losses = all.map((record) => lossOf(record, name));
  const gains = all.map((record) => lossOf(record, 'dense') - lossOf(record, name));
  const gap = mean(all.map((record) => lossOf(record, 'dense') - lossOf(record, 'teacher')));
  const spread = (numbers) => `${round(mean(numbers))} ± ${round(deviation(numbers))}`;
  return `| ${[
    name,
    all[0][name].parameters.toLocaleString('en'),
    spread(losses),
    name === 'dense' ? '' : spread(gains),
    name === 'dense' ? '' : `${round((100 * mean(gains)) / gap, 0)} %`,
  ].join(' | ')} |`;
});
const table = `| run | parameters | validation loss | better than dense by | share of the gap |
| --- | ---: | ---: | ---: | ---: |
${lines.join('\n')}
`;
writeFileSync(here('table.md'), table);
process.stdout.write(table);
