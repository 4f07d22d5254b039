/**
 * Draws what was found in memory against the budget, by way of loading, and hits by number of experts.
 *
 *   node docs/results/sida/figures.mjs
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { colours, drawInto, Plot } from './draw.mjs';
import { expertCounts, taskNames } from './tasks.mjs';

/** A legend: one coloured line of text a kind, in a facet of the figure. */
const legend = (entries, facet) =>
  entries.map(([name, colour], i) =>
    Plot.text([name], { fx: () => facet, text: (d) => d, fill: colour, frameAnchor: 'bottom-right', dx: -8, dy: -6 - 15 * (entries.length - 1 - i) }),
  );
const read = (name) => JSON.parse(readFileSync(new URL(name, import.meta.url), 'utf8'));
const has = (name) => existsSync(new URL(name, import.meta.url));
const names = {
  fifo: 'FIFO',
  lru: 'LRU',
  lfu: 'LFU',
  layered: 'LRU by layer order',
  static: 'static, most popular',
  belady: 'Belady',
  prefetch: 'predicted, one guess',
  prefetchThree: 'predicted, three guesses',
};
const colourOf = (kind) => colours[Object.keys(names).indexOf(kind)];
const points = taskNames.flatMap((task) =>
  has(`caches-${task}-128.json`)
    ? Object.entries(read(`caches-${task}-128.json`).budgets).flatMap(([budget, found]) =>
        Object.keys(names).flatMap((kind) => (found[kind] ? [{ task, kind, budget: Number(budget), found: found[kind].hitRate ?? found[kind].recall }] : [])),
      )
    : [],
);
drawInto('caches.svg', 'Experts found in memory when a layer’s router decides, against the budget, 128 experts', {
  width: 900,
  height: 330,
  marginRight: 30,
  marginBottom: 64,
  fx: { label: null, domain: taskNames.filter((task) => points.some((point) => point.task === task)) },
  x: { label: 'share of all experts that fit into memory', tickFormat: '.0%', ticks: [0.1, 0.25, 0.5, 0.75] },
  y: { label: 'found in memory', domain: [0, 1], tickFormat: '.0%', grid: true },
  marks: [
    Plot.line(points, { fx: 'task', x: 'budget', y: 'found', stroke: ({ kind }) => colourOf(kind), strokeDasharray: ({ kind }) => (kind.startsWith('prefetch') ? '5 3' : ''), z: 'kind' }),
    Plot.dot(points, { fx: 'task', x: 'budget', y: 'found', fill: ({ kind }) => colourOf(kind), r: 3 }),
    ...legend(Object.entries(names).map(([kind, name]) => [name, colourOf(kind)]), 'sst2'),
  ],
});

const hits = readdirSync(new URL('.', import.meta.url))
  .filter((name) => /^measured-.*-sida-seed1\.json$/.test(name))
  .map((name) => read(name));
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const bars = hits.flatMap(({ task, experts, real, withPadding }) => [
  { task, experts, kind: 'top-3', value: mean(real.top3) },
  { task, experts, kind: 'top-1', value: mean(real.top1) },
  ...(withPadding ? [{ task, experts, kind: 'top-1 with padding', value: mean(withPadding.top1) }] : []),
  ...(has(`table-${task}-${experts}.json`) ? [{ task, experts, kind: 'top-1 of a table by token', value: mean(read(`table-${task}-${experts}.json`).top1) }] : []),
  { task, experts, kind: 'chance', value: 1 / experts },
]);
const kinds = ['top-3', 'top-1', 'top-1 with padding', 'top-1 of a table by token', 'chance'];
drawInto('hits.svg', 'Share of decisions that are predicted, by task and number of experts', {
  width: 900,
  height: 330,
  marginRight: 30,
  fx: { label: null, domain: taskNames },
  x: { type: 'point', label: 'experts', domain: expertCounts },
  y: { label: 'decisions predicted', domain: [0, 1], tickFormat: '.0%', grid: true },
  marks: [
    Plot.line(bars, { fx: 'task', x: 'experts', y: 'value', stroke: ({ kind }) => colours[kinds.indexOf(kind)], strokeDasharray: ({ kind }) => (kind === 'chance' ? '2 3' : ''), z: 'kind' }),
    Plot.dot(bars, { fx: 'task', x: 'experts', y: 'value', fill: ({ kind }) => colours[kinds.indexOf(kind)], r: 3.5 }),
    ...legend(kinds.map((kind, i) => [kind, colours[i]]), 'sst2'),
  ],
});
