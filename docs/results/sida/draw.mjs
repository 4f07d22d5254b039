/**
 * Figures as files that need no page: white paper, plain colours.
 */
import { writeFileSync } from 'node:fs';
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';

export { Plot };
export const colours = ['#4269d0', '#e8890c', '#3b9950', '#d6456b', '#8b5fd3', '#1f9d9d', '#9c6b4e', '#7d8590'];

/** Draws a plot into a file beside this script. */
export function drawInto(name, label, options) {
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const svg = Plot.plot({
    width: 760,
    height: 320,
    marginLeft: 56,
    marginBottom: 40,
    style: { background: 'white', color: '#1b1e23', fontSize: '12px', fontFamily: 'system-ui, sans-serif' },
    ...options,
    ariaLabel: label,
    document,
  });
  svg.setAttribute('role', 'img');
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  writeFileSync(new URL(name, import.meta.url), `${svg.outerHTML}\n`);
}
