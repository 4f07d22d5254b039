/**
 * Writes table.md from the records of train-models.mjs and compress-models.mjs: mean ± standard deviation over seeds.
 *
 *   node docs/results/resmoe/table.mjs
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

const here = (name) => new URL(name, import.meta.url);
const read = (pattern) =>
  readdirSync(here('.'))
    .filter((name) => pattern.test(name))
    .sort()
    .map((name) => JSON.parse(readFileSync(here(name), 'utf8')));
const trained = read(/^models-.*\.json$/);
const compressed = read(/^compressed-.*\.json$/);
const tasks = ['sst2', 'mrpc', 'cola'];
/** What a task is judged by. */
const scoreOf = { sst2: 'accuracy', mrpc: 'accuracy', cola: 'matthews' };

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
function spread(values, digits = 4) {
  if (values.length === 0) return '';
  const m = mean(values);
  if (values.length === 1) return m.toFixed(digits);
  const deviation = Math.sqrt(values.reduce((sum, v) => sum + (v - m) ** 2, 0) / (values.length - 1));
  return `${m.toFixed(digits)} ± ${deviation.toFixed(digits)}`;
}
const row = (cells) => `| ${cells.join(' | ')} |`;
const table = (head, rows) => [row(head), row(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(row), ''];

/** Tasks on which the uncompressed model beats the majority class by more than two standard errors, by variant and seed. */
const counts = new Map(
  trained.map(({ variant, seed, stages }) => [`${variant} ${seed}`, tasks.filter((task) => stages[task].counts)]),
);
const lines = ['# ResMoE: compressed models', '', 'Made by `node docs/results/resmoe/table.mjs`. Mean ± standard deviation (n − 1) over seeds.', ''];

for (const variant of [...new Set(compressed.map((record) => record.variant))]) {
  const records = compressed.filter((record) => record.variant === variant);
  const models = trained.filter((record) => record.variant === variant);
  const counting = (task, record) => counts.get(`${variant} ${record.seed}`)?.includes(task);
  lines.push(`## ${variant}, seeds ${records.map(({ seed }) => seed).join(', ')}`, '');
  lines.push(
    ...table(
      ['uncompressed', 'score', 'majority', 'counts on seeds'],
      tasks.map((task) => [
        `${task}, ${scoreOf[task] === 'matthews' ? 'Matthews correlation' : 'accuracy'}`,
        spread(models.map(({ stages }) => stages[task][scoreOf[task]].value)),
        scoreOf[task] === 'matthews' ? '0' : spread(models.map(({ stages }) => stages[task].majority.accuracy)),
        models.filter(({ stages }) => stages[task].counts).map(({ seed }) => seed).join(', ') || 'none',
      ]),
    ),
  );
  /** One line a method: everything over the seeds that have it. */
  const lineOf = (method, budget, label) => {
    const key = `${method} ${JSON.stringify(budget)}`;
    const found = records
      .map((record) => ({ record, entry: record.measured.find((entry) => entry.key === key) }))
      .filter(({ entry }) => entry !== undefined);
    const [first] = found;
    if (!first) return undefined;
    if (first.entry.refused) return [label, `refused: ${first.entry.refused}`, ...new Array(6).fill('')];
    return [
      label,
      mean(found.map(({ entry }) => entry.fraction)).toFixed(4),
      spread(found.map(({ entry }) => entry.relativeError)),
      spread(found.map(({ record, entry }) => entry.models.pretrained.loss - record.original.pretrained.loss)),
      spread(found.map(({ entry }) => entry.models.pretrained.perplexity), 2),
      ...tasks.map((task) =>
        spread(
          found.filter(({ entry }) => entry.models[task]).map(({ entry }) => entry.models[task][scoreOf[task]].value),
        ),
      ),
    ];
  };
  const head = ['method', 'share of the layer', 'ε / energy', 'loss − original', 'perplexity', ...tasks];
  const original = ['original', '1', '0', '0', spread(records.map((record) => record.original.pretrained.perplexity), 2)];
  for (const task of tasks) {
    const those = records.filter((record) => counting(task, record));
    original.push(spread(those.map((record) => record.original[task][scoreOf[task]].value)));
  }
  const methods = [...new Set(records.flatMap(({ measured }) => measured.map(({ method }) => method)))];
  const withCentre = (method) => /ResMoE|centre/.test(method);
  const section = (title, budgetOf) => {
    lines.push(`### ${title}`, '');
    lines.push(...table(head, [original, ...methods.map((method) => lineOf(method, budgetOf(method), method)).filter(Boolean)]));
  };
  section('A quarter of each expert; a centre is extra', () => ({ perExpert: 0.25 }));
  section('A quarter of the layer, centre counted', (method) => (withCentre(method) ? { layer: 0.25 } : { perExpert: 0.25 }));
  section('Three eighths of the layer, centre counted', (method) => (withCentre(method) ? { perExpert: 0.25 } : { layer: 0.375 }));
  lines.push('### As less is kept: span-corruption loss − original at a half, a quarter and an eighth of each expert', '');
  const swept = methods.filter((method) => records[0].measured.some(({ key }) => key === `${method} {"perExpert":0.5}`));
  const difference = (method, perExpert) =>
    spread(
      records.flatMap((record) => {
        const entry = record.measured.find(({ key }) => key === `${method} ${JSON.stringify({ perExpert })}`);
        return entry?.models ? [entry.models.pretrained.loss - record.original.pretrained.loss] : [];
      }),
    );
  lines.push(...table(['method', '1/2', '1/4', '1/8'], swept.map((method) => [method, ...[0.5, 0.25, 0.125].map((share) => difference(method, share))])));
  const redundancy = (method) =>
    spread(
      records.flatMap(({ measured }) => {
        const entry = measured.find(({ key }) => key === `${method} {"perExpert":0.25}`);
        return entry?.layers ? [mean(entry.layers.map((layer) => layer.redundancy))] : [];
      }),
    );
  lines.push('### What the experts have in common', '', 'ρ = Σ‖Δ‖² / Σ‖D‖², mean over layers; the mean of independent experts leaves 7/8.', '');
  lines.push(...table(['centre', 'ρ'], ['ResMoE, UP', 'Git Re-Basin centre, UP', 'mean centre, UP'].map((method) => [method.replace(', UP', ''), redundancy(method)])));
  const starts = records.filter((record) => record.starts);
  lines.push(
    `ε / energy of ResMoE (UP, a quarter) by the expert that the alternation starts from, lowest to highest: ${starts
      .map(({ seed, starts: all }) => `seed ${seed}: ${Math.min(...all).toFixed(4)} to ${Math.max(...all).toFixed(4)}`)
      .join('; ')}.`,
    '',
  );
  const bytes = records.flatMap(({ measured }) => measured.filter((entry) => entry.bytes));
  const worst = Math.max(...bytes.map(({ bytes: { after, predicted } }) => Math.abs(after / predicted - 1)));
  lines.push(`Files on disk differ from the accounting by at most ${(100 * worst).toFixed(2)} % (${bytes.length} folders).`, '');
}
writeFileSync(here('table.md'), `${lines.join('\n').trimEnd()}\n`);
