/**
 * A figure of a comparison: validation loss over training steps, one line a run, one colour a variant.
 * @module
 */
import { trainedEvaluation, type Plan } from './plan.js';
import type { RunRecord } from './record.js';

const WIDTH = 760;
const HEIGHT = 400;
const LEFT = 56;
const TOP = 40;
const BOTTOM = 48;
const LEGEND = 180;

const palette = [
  '#4269d0',
  '#ff725c',
  '#3ca951',
  '#a463f2',
  '#efb118',
  '#6cc5b0',
  '#ff8ab7',
  '#9c6b4e',
  '#97bbf5',
  '#9498a0',
];

const escape = (text: string): string =>
  text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!);

function colorOf(index: number): string {
  // The golden angle keeps any number of further colours apart.
  return palette[index] ?? `hsl(${Math.round((index * 137.5) % 360)} 60% 45%)`;
}

/** SVG text. Variants whose loss sees later tokens are dashed. */
export function comparisonCurves(plan: Plan, records: readonly RunRecord[]): string {
  const points = records.flatMap(({ curve }) => curve);
  const shown = plan.variants.filter(({ name }) => records.some(({ variant }) => variant === name));
  const maxStep = Math.max(1, ...points.map(({ step }) => step));
  const losses = points.map(({ loss }) => loss);
  const low = losses.length === 0 ? 0 : Math.min(...losses);
  const high = losses.length === 0 ? 1 : Math.max(...losses);
  const range = high - low || 1;
  const right = WIDTH - LEGEND;
  const x = (step: number): number => LEFT + (step / maxStep) * (right - LEFT);
  const y = (loss: number): number => TOP + ((high - loss) / range) * (HEIGHT - TOP - BOTTOM);
  const ticks = Array.from({ length: 5 }, (_, i) => low + (i / 4) * range);
  const lines = shown.flatMap(({ name }) =>
    records
      .filter(({ variant }) => variant === name)
      .map((record) => {
        const path = record.curve
          .map(({ step, loss }) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`)
          .join(' ');
        const leaks = record.evaluations[trainedEvaluation].leaks.length > 0;
        const color = colorOf(plan.variants.findIndex((variant) => variant.name === name));
        const title = `${record.variant}, seed ${record.seed}`;
        return `<polyline points="${path}" fill="none" stroke="${color}" stroke-width="1.5" stroke-opacity="0.8"${leaks ? ' stroke-dasharray="5 3"' : ''}><title>${escape(title)}</title></polyline>`;
      }),
  );
  const legend = shown.map(({ name, leaks }, i) => {
    const color = colorOf(plan.variants.findIndex((variant) => variant.name === name));
    const height = TOP + 8 + i * 18;
    const dash = leaks.length > 0 ? ' stroke-dasharray="5 3"' : '';
    return `<line x1="${right + 16}" x2="${right + 34}" y1="${height}" y2="${height}" stroke="${color}" stroke-width="2"${dash}/><text x="${right + 40}" y="${height + 4}">${escape(name)}</text>`;
  });
  const height = Math.max(HEIGHT, TOP + 24 + shown.length * 18);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<text x="${LEFT}" y="22" font-weight="600">${escape(plan.grid.name)}: validation loss (nats per token)${shown.some(({ leaks }) => leaks.length > 0) ? '; dashed: sees later tokens' : ''}</text>
${ticks.map((tick) => `<line x1="${LEFT}" x2="${right}" y1="${y(tick).toFixed(1)}" y2="${y(tick).toFixed(1)}" stroke="#ddd"/><text x="${LEFT - 6}" y="${(y(tick) + 4).toFixed(1)}" text-anchor="end">${tick.toFixed(2)}</text>`).join('\n')}
${[0, 0.25, 0.5, 0.75, 1].map((part) => `<text x="${x(part * maxStep).toFixed(1)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${Math.round(part * maxStep)}</text>`).join('')}
<text x="${(LEFT + right) / 2}" y="${HEIGHT - 10}" text-anchor="middle">step</text>
${lines.join('\n')}
${legend.join('\n')}
</svg>
`;
}
