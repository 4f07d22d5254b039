/**
 * Observable Plot without a browser: SVG as text, in colours that follow the page's theme.
 * @module
 */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';

/** The little of the document's elements that is used here. */
interface SvgElement {
  readonly outerHTML: string;
  setAttribute(name: string, value: string): void;
}

// Both are declared in terms of a browser's types, which a program for Node does not have.
const plot = Plot.plot as unknown as (options: Readonly<Record<string, unknown>>) => SvgElement;
const parse = parseHTML as unknown as (html: string) => { readonly document: unknown };

/** Room for labels, and type a little larger than Plot's own. */
const STYLE = { background: 'transparent', color: 'inherit', fontSize: '11px', overflow: 'visible' };

/**
 * Draws a plot.
 * @param label what it shows, for those who cannot see it
 */
export function draw(label: string, options: Readonly<Record<string, unknown>>): string {
  // A document of its own for each: Plot keeps nothing in it, and neither do we.
  const { document } = parse('<!doctype html><html><body></body></html>');
  const svg = plot({ style: STYLE, ...options, color: { type: 'identity' }, ariaLabel: label, document });
  svg.setAttribute('role', 'img');
  return svg.outerHTML;
}

/** Shade of a heat map's cell: 0 is the paper, 1 the full colour. */
export function shade(fraction: number): string {
  const percent = Math.round(100 * Math.min(1, Math.max(0, fraction)));
  return `color-mix(in oklab, var(--heat) ${percent}%, var(--cell))`;
}

/** Colour of text on a cell of that shade. */
export function inkOn(fraction: number): string {
  return fraction > 0.55 ? 'var(--on-heat)' : 'var(--ink)';
}

/** Colours that tell runs apart; there are as many in the page's style. */
export const RUN_COLORS = 8;

/** Colour of the run with this number. */
export function runColor(index: number): string {
  return `var(--run-${index % RUN_COLORS})`;
}

/** `0.31`, `12.4`, `1.3k`: three digits that matter. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return '–';
  if (Math.abs(value) >= 1000) return value.toLocaleString('en', { maximumFractionDigits: 0 });
  if (Math.abs(value) >= 10) return value.toFixed(1);
  return value.toFixed(Math.abs(value) >= 1 ? 2 : 3);
}

/** `31 %` */
export function percent(share: number): string {
  const value = 100 * share;
  return `${value.toFixed(value !== 0 && Math.abs(value) < 10 ? 1 : 0)} %`;
}

/** An axis with its label in the middle below it. */
export function xAxis(label: string, more: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return { label, labelArrow: 'none', labelAnchor: 'center', tickSize: 4, ...more };
}

/** An axis with its label above it. */
export function yAxis(label: string, more: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return { label, labelArrow: 'none', tickSize: 0, ...more };
}

/** Whole numbers from 1 to `last`, about `count` of them. */
export function wholeTicks(last: number, count = 10): number[] {
  const step = Math.max(1, Math.ceil(last / count));
  return Array.from({ length: last }, (_, i) => i + 1).filter((value) => value === 1 || value % step === 0);
}

/** Places near the wanted ones that are at least `gap` apart, in the order of the wanted ones. */
export function spread(wanted: readonly number[], gap: number): number[] {
  const order = wanted.map((_, i) => i).sort((a, b) => wanted[a] - wanted[b]);
  const placed = [...wanted];
  for (let round = 0; round < 50; round++) {
    for (let i = 1; i < order.length; i++) {
      const [below, above] = [order[i - 1], order[i]];
      const missing = gap - (placed[above] - placed[below]);
      if (missing <= 1e-12) continue;
      placed[below] -= missing / 2;
      placed[above] += missing / 2;
    }
  }
  return placed;
}
