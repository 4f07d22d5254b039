/**
 * Writes table.md from the records beside it: teachers, predictors, fidelity, residency and caches.
 *
 *   node docs/results/sida/table.mjs
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { expertCounts, taskNames } from './tasks.mjs';
import { variants } from './variants.mjs';

const here = (name) => new URL(name, import.meta.url);
const read = (name) => (existsSync(here(`${name}.json`)) ? JSON.parse(readFileSync(here(`${name}.json`), 'utf8')) : undefined);
const all = (pattern) => readdirSync(here('.')).filter((name) => pattern.test(name)).sort().map((name) => JSON.parse(readFileSync(here(name), 'utf8')));
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const deviation = (values) => Math.sqrt(values.reduce((sum, v) => sum + (v - mean(values)) ** 2, 0) / (values.length - 1));
const spread = (values, format) => (values.length > 1 ? `${format(mean(values))} ± ${format(deviation(values))}` : values.length === 1 ? format(values[0]) : '');
const percent = (value) => (100 * value).toFixed(1);
const fixed = (digits) => (value) => value.toFixed(digits);
const row = (cells) => `| ${cells.join(' | ')} |`;
const table = (head, rows) => [row(head), row(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(row), ''];
const pairs = expertCounts.flatMap((experts) => taskNames.map((task) => ({ task, experts })));
const scoreOf = { sst2: 'accuracy', mrpc: 'f1', multirc: 'accuracy' };

const lines = ['# SiDA on models of our own: all figures', '', 'Made by `node docs/results/sida/table.mjs` from the records beside it. Shares are in per cent. ± is the standard deviation over seeds of the predictor.', ''];

lines.push('## Teachers', '', '`node docs/results/sida/train-teachers.mjs`', '');
lines.push(
  ...table(
    ['teacher', 'validation loss', 'accuracy', 'F1', 'majority', 'largest share of one expert, by layer', 'experts used, by layer', 'training, s'],
    all(/^teacher-.*\.json$/).map((t) => [
      `${t.task} ${t.experts}`,
      t.loss.toFixed(4),
      `${percent(t.accuracy.value)} ± ${percent(t.accuracy.standardError)}`,
      percent(t.f1.value),
      percent(t.majority.accuracy),
      t.largestShare.map(percent).join(', '),
      t.usedExperts.join(', '),
      t.seconds,
    ]),
  ),
);

const measured = all(/^measured-.*\.json$/);
const those = (task, experts, variant, steps) =>
  measured.filter((m) => m.task === task && m.experts === experts && m.variant === variant && m.steps === steps);
lines.push('## Hits', '', '`node docs/results/sida/train-predictors.mjs && node docs/results/sida/measure-predictors.mjs`', '');
lines.push(
  ...table(
    ['teacher', 'K/E', 'top-1', 'top-3', 'top-1 with padding', 'top-3 with padding', 'table by token, top-1', 'top-3', 'mean α', 'error of α', 'constant 1/E'],
    pairs.flatMap(({ task, experts }) => {
      const found = those(task, experts, 'sida');
      if (found.length === 0) return [];
      const byToken = read(`table-${task}-${experts}`);
      const of = (part, key) => spread(found.map((m) => mean(m[part][key])), percent);
      return [
        [
          `${task} ${experts}`,
          percent(1 / experts),
          of('real', 'top1'),
          of('real', 'top3'),
          found[0].withPadding ? of('withPadding', 'top1') : '',
          found[0].withPadding ? of('withPadding', 'top3') : '',
          byToken ? percent(mean(byToken.top1)) : '',
          byToken ? percent(mean(byToken.top3)) : '',
          spread([found[0].real.alpha], fixed(3)),
          spread(found.map((m) => m.real.alphaError), fixed(4)),
          spread([found[0].real.constantError], fixed(4)),
        ],
      ];
    }),
  ),
);
lines.push('By layer, first to last, top-1 / top-3:', '');
lines.push(
  ...pairs.flatMap(({ task, experts }) => {
    const [first] = those(task, experts, 'sida');
    return first ? [`- ${task} ${experts}: ${first.real.top1.map((v, l) => `${percent(v)} / ${percent(first.real.top3[l])}`).join(', ')}`] : [];
  }),
  '',
);

lines.push('## Ablations', '', 'SiDA’s predictor with one thing changed, equal steps and seeds.', '');
const lengths = [undefined, ...new Set(measured.flatMap(({ steps }) => steps ?? []))];
for (const { task, experts, steps } of pairs.flatMap((pair) => lengths.map((steps) => ({ ...pair, steps })))) {
  const rows = Object.keys(variants).flatMap((variant) => {
    const found = those(task, experts, variant, steps);
    if (found.length === 0) return [];
    const of = (part, key) => (found[0][part] ? spread(found.map((m) => mean([m[part][key]].flat())), key === 'alphaError' ? fixed(4) : percent) : '');
    return [[variant, found.length, of('real', 'top1'), of('real', 'top3'), of('withPadding', 'top1'), of('withPadding', 'top3'), of('real', 'alphaError')]];
  });
  if (rows.length > 1) lines.push(`${task}, ${experts} experts${steps === undefined ? '' : `, ${steps} updates`}:`, '', ...table(['predictor', 'seeds', 'top-1', 'top-3', 'top-1 with padding', 'top-3 with padding', 'error of α'], rows));
}

lines.push('## Fidelity', '', 'Score with the prediction in place of the routers, over the teacher’s own (accuracy of SST-2, F1 of the others); share of equal answers; mean change of the probability of class 1.', '');
const modes = [
  ['top1', 'top-1, δ = 1'],
  ['top1Released', 'top-1, δ = 0.5'],
  ['top3', 'top-3, δ = 1'],
  ['top3Released', 'top-3, δ = 0.5, 0.25, 0.25'],
];
lines.push(
  ...table(
    ['teacher', 'score', 'mode', 'score then', 'fidelity', 'equal answers', 'change of p'],
    pairs.flatMap(({ task, experts }) => {
      const controls = read(`fidelity-${task}-${experts}-controls`);
      if (!controls) return [];
      const score = scoreOf[task];
      const own = controls.teacher[score].value;
      const line = (label, reports) => [
        `${task} ${experts}`,
        percent(own),
        label,
        spread(reports.map((r) => r[score].value), percent),
        spread(reports.map((r) => r[score].value / own), percent),
        spread(reports.map((r) => r.agreement), percent),
        spread(reports.map((r) => r.meanDifference), fixed(4)),
      ];
      const found = those(task, experts, 'sida').filter((m) => m.answers);
      return [
        line('the router’s decisions, fed', [controls.oracle]),
        ...modes.filter(() => found.length > 0).map(([mode, label]) => line(label, found.map((m) => m.answers[mode]))),
        line('random experts, the router’s α', [controls.randomExperts]),
      ];
    }),
  ),
);
const oracles = pairs.flatMap(({ task, experts }) => read(`fidelity-${task}-${experts}-controls`)?.oracle.largestLogitDifference ?? []);
if (oracles.length > 0) lines.push(`Largest difference of a logit under the router’s own decisions, over ${oracles.length} teachers: ${Math.max(...oracles).toExponential(1)}.`, '');

const caches = pairs.flatMap(({ task, experts }) => read(`caches-${task}-${experts}`) ?? []);
lines.push('## Residency', '', '`node docs/results/sida/caches.mjs`: experts that one text needs or is predicted to need, as a share of all experts of all layers; share of the needed ones that are predicted.', '');
lines.push(
  ...table(
    ['teacher', 'needed', 'predicted, one guess', 'three guesses', 'recall, one', 'recall, three', 'predicted by length, shortest to longest quarter'],
    caches.flatMap(({ task, experts, predicted: p }) => (p ? [[`${task} ${experts}`, percent(p.needed), percent(p.one), percent(p.three), percent(p.recallOne), percent(p.recallThree), p.quarters.map((q) => `${percent(q.resident)} at ${q.length.toFixed(0)}`).join(', ')]] : [])),
  ),
);
lines.push('## Caches', '', 'One text after another; hit rate after the warm-up / experts loaded a text. `sida` loads what is predicted and computes with it; `prefetch` loads the rest on demand, its number is the share found in memory.', '');
for (const { task, experts, total, activeShare, budgets } of caches) {
  const kinds = Object.keys(Object.values(budgets)[0]).filter((key) => key !== 'capacity');
  lines.push(`${task}, ${experts} experts: ${total} in all, ${percent(activeShare)} % of a layer active in one text`, '');
  const cell = (r) => (r ? `${r.hitRate !== undefined ? percent(r.hitRate) : r.recall !== undefined ? percent(r.recall) : '–'} / ${r.loadsPerText.toFixed(1)}` : '');
  lines.push(...table(['loading', ...Object.keys(budgets).map((b) => `${100 * b} %`)], kinds.map((kind) => [kind, ...Object.values(budgets).map((b) => cell(b[kind]))])));
}
writeFileSync(here('table.md'), `${lines.join('\n').trimEnd()}\n`);
