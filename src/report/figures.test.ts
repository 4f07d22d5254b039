import { fileURLToPath } from 'node:url';
import { parseHTML } from 'linkedom';
import { describe, expect, test } from 'vitest';
import { madeUpReport } from '../../test/support/report-data.js';
import { expectSameAsFile } from '../../test/support/snapshot.js';
import { figures } from './index.js';

const report = madeUpReport();
const folder = fileURLToPath(new URL('../../test/snapshots/report/', import.meta.url));

describe.each(figures)('$id', ({ id, draw }) => {
  const panels = draw(report);

  test('shows something, under headings that tell panels apart', () => {
    expect(panels.length).toBeGreaterThan(0);
    expect(new Set(panels.map(({ caption }) => caption)).size).toBe(panels.length);
    for (const { markup } of panels) expect(markup).toMatch(/^<(svg|table)/);
    for (const { markup } of panels) expect(markup).not.toMatch(/NaN|undefined|Infinity/);
  });

  test('every drawing says what it is', () => {
    for (const { markup } of panels.filter(({ markup: text }) => text.startsWith('<svg'))) {
      const label = /^<svg[^>]*aria-label="([^"]+)"/.exec(markup)?.[1];
      expect(label?.length).toBeGreaterThan(10);
      expect(markup).toMatch(/^<svg[^>]*role="img"/);
    }
  });

  panels.forEach(({ markup }, i) => {
    const extension = markup.startsWith('<svg') ? 'svg' : 'html';
    test(`panel ${i + 1} is drawn as it was`, () => {
      // A browser opens an SVG file only with its namespace.
      const text = markup
        .replace('<svg ', '<svg xmlns="http://www.w3.org/2000/svg" ')
        .replaceAll('><', '>\n<');
      expectSameAsFile(`${folder}${id}-${i + 1}.${extension}`, `${text}\n`);
    });
  });
});

test('identifiers are unique, and a report of dense runs leaves routing out', () => {
  expect(new Set(figures.map(({ id }) => id)).size).toBe(figures.length);
  const dense = { ...report, runs: report.runs.filter(({ routing }) => !routing) };
  expect(figures.filter(({ draw }) => draw(dense).length > 0).map(({ id }) => id)).toEqual(['loss']);
});

test('a heat map has one cell for each number', () => {
  const [first] = figures.find(({ id }) => id === 'agreement')!.draw(report);
  const { document } = (
    parseHTML as unknown as (html: string) => {
      document: { querySelectorAll(s: string): { textContent: string }[] };
    }
  )(first.markup);
  const titles = [...document.querySelectorAll('rect title')].map(({ textContent }) => textContent);
  expect(titles).toHaveLength(9);
  expect(titles[0]).toBe('layer 1, layer 1: 1.00');
});
