/**
 * How many experts one text needs, by its length: figure, and table for docs/results/sida.md.
 *
 *   node docs/results/sida/active.mjs
 */
import { existsSync, readFileSync } from 'node:fs';
import { colours, drawInto, Plot } from './draw.mjs';
import { expertCounts, taskNames } from './tasks.mjs';

const points = [];
const lines = ['| texts | experts | mean length | active in one text | 1 − (1 − 1/E)^L | below it | by length, shortest to longest quarter |', '| --- | ---: | ---: | ---: | ---: | ---: | --- |'];
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const percent = (share) => `${(100 * share).toFixed(1)} %`;

for (const task of taskNames) {
  for (const experts of expertCounts) {
    const file = new URL(`active-${task}-${experts}.json`, import.meta.url);
    if (!existsSync(file)) continue;
    const texts = JSON.parse(readFileSync(file, 'utf8'))
      .active.map(([length, counts]) => ({ length, share: mean(counts) / experts, uniform: 1 - (1 - 1 / experts) ** length }))
      .sort((a, b) => a.length - b.length);
    const quarter = (i) => texts.slice(Math.floor((i * texts.length) / 4), Math.floor(((i + 1) * texts.length) / 4));
    const by = (key) => mean(texts.map((text) => text[key]));
    const quarters = [0, 1, 2, 3].map((i) => `${percent(mean(quarter(i).map(({ share }) => share)))} at ${mean(quarter(i).map(({ length }) => length)).toFixed(0)}`);
    const below = texts.filter(({ share, uniform }) => share <= uniform + 1e-9).length / texts.length;
    lines.push(`| ${task} | ${experts} | ${by('length').toFixed(1)} | ${percent(by('share'))} | ${percent(by('uniform'))} | ${percent(below)} | ${quarters.join(', ')} |`);
    // Groups of twelve neighbours by length: one point each.
    const count = 12;
    for (let i = 0; i < count; i++) {
      const group = texts.slice(Math.floor((i * texts.length) / count), Math.floor(((i + 1) * texts.length) / count));
      points.push({ task, experts, length: mean(group.map(({ length }) => length)), share: mean(group.map(({ share }) => share)) });
    }
  }
}
const curve = expertCounts.flatMap((experts) => Array.from({ length: 97 }, (_, i) => 4 * 100 ** (i / 97)).map((length) => ({ experts, length, share: 1 - (1 - 1 / experts) ** length })));
const colour = ({ experts }) => colours[expertCounts.indexOf(experts)];
drawInto('active.svg', 'Share of experts that one text needs, against its length', {
  x: { type: 'log', label: 'tokens in the text', tickFormat: 'd' },
  y: { label: 'share of a layer’s experts that are active', domain: [0, 1], grid: true, percent: false, tickFormat: '.0%' },
  symbol: { legend: false },
  marks: [
    Plot.line(curve, { x: 'length', y: 'share', stroke: colour, strokeDasharray: '4 3', z: 'experts' }),
    Plot.line(points, { x: 'length', y: 'share', stroke: colour, strokeWidth: 1.5, z: ({ task, experts }) => `${task} ${experts}` }),
    Plot.dot(points, { x: 'length', y: 'share', fill: colour, symbol: 'task', r: 3 }),
    Plot.text(
      taskNames.flatMap((task) => points.filter((point) => point.task === task).sort((a, b) => a.share - b.share).slice(0, 1)),
      { x: 'length', y: 'share', text: 'task', dy: 16, fill: '#6b7077' },
    ),
    Plot.text(
      expertCounts.map((experts, i) => ({ experts, y: 0.94 - 0.07 * i })),
      { text: ({ experts }) => `${experts} experts${experts === 8 ? '; dashed: uniform routing' : ''}`, x: () => 4.2, y: 'y', fill: colour, textAnchor: 'start' },
    ),
  ],
});
console.log(lines.join('\n'));
