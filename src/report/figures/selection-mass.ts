/**
 * Sorted selection mass: how steeply the gates concentrate on few experts (σ-MoE §10).
 * @module
 */
import * as Plot from '@observablehq/plot';
import { draw, percent, runColor, wholeTicks, xAxis, yAxis } from '../draw.js';
import type { Figure } from '../figure.js';

interface Point {
  readonly series: string;
  readonly color: number;
  readonly rank: number;
  readonly share: number;
}

/** Shares below this are drawn at it: a logarithm has no zero. */
const FLOOR = 1e-4;

/** Round shares for a logarithmic axis. */
const TICKS = [1e-4, 1e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1];

export const selectionMass: Figure = {
  id: 'selection-mass',
  title: 'Sorted selection mass',
  reading:
    'Each line is one layer, its experts sorted by their share of all gate weight; a flat line uses its experts evenly, a steep one lives on few of them (dashed: even).',
  numbers: 'runs[].routing.profiles[].selectionMass',
  draw({ runs }) {
    const points = runs.flatMap(({ name, routing }, color) =>
      (routing?.profiles ?? []).flatMap(({ layer, selectionMass: mass, visibleExperts }) =>
        [...mass]
          .sort((a, b) => b - a)
          // Experts that a stratum does not see have no mass to show.
          .slice(0, visibleExperts)
          .map((share, i): Point => {
            return { series: `${name}, layer ${layer}`, color, rank: i + 1, share: Math.max(FLOOR, share) };
          }),
      ),
    );
    if (points.length === 0) return [];
    const even = [
      ...new Set(
        runs.flatMap(
          ({ routing }) => routing?.profiles.map(({ visibleExperts }) => 1 / visibleExperts) ?? [],
        ),
      ),
    ];
    const shares = points.map(({ share }) => share);
    const [low, high] = [Math.min(...shares) * 0.9, Math.max(...shares, ...even) * 1.1];
    const ticks = TICKS.filter((tick) => tick >= low && tick <= high);
    const markup = draw('Share of gate weight by rank of the expert', {
      width: 620,
      height: 280,
      marginLeft: 52,
      marginBottom: 38,
      x: xAxis('rank of the expert', {
        ticks: wholeTicks(Math.max(...points.map(({ rank }) => rank))),
        tickFormat: 'd',
      }),
      y: yAxis('share of gate weight', { type: 'log', domain: [low, high], ticks, tickFormat: percent }),
      marks: [
        Plot.gridY(ticks, { stroke: 'var(--line)', strokeOpacity: 1 }),
        Plot.ruleY(even, { stroke: 'var(--quiet)', strokeDasharray: '3,3' }),
        Plot.line(points, {
          x: 'rank',
          y: 'share',
          z: 'series',
          stroke: ({ color }: Point) => runColor(color),
          strokeWidth: 1.5,
          strokeOpacity: 0.8,
        }),
        Plot.dot(points, {
          x: 'rank',
          y: 'share',
          r: 2.5,
          fill: ({ color }: Point) => runColor(color),
          title: ({ series, rank, share }: Point) => `${series}, rank ${rank}: ${percent(share)}`,
        }),
      ],
    });
    return [{ caption: '', markup }];
  },
};
