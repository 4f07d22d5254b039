import { expect, test } from 'vitest';
import { madeUpReport } from '../../test/support/report-data.js';
import { figures, reportPage } from './index.js';

const report = madeUpReport();

test('the page holds every figure and asks for nothing', () => {
  const page = reportPage(report, 'report.json');
  for (const { id, title } of figures) {
    expect(page).toContain(`<section id="${id}"`);
    expect(page).toContain(`<a href="#${id}">${title}</a>`);
  }
  expect(page).toContain('<a href="report.json">');
  expect(page).not.toMatch(/<script|<link rel="stylesheet|@import|url\(|src=|https?:\/\/(?!www\.w3\.org)/);
  expect(reportPage(report, 'report.json')).toBe(page);
});

test('names of runs are text, wherever they stand', () => {
  const name = '<b>"x" & \'y\'</b>';
  const page = reportPage({ ...report, runs: [{ ...report.runs[0], name }] }, 'a b.json');
  // Inside a quoted attribute an angle bracket is text already.
  expect(page.replaceAll(/="[^"]*"/g, '')).not.toContain('<b>');
  expect(page).toContain('&lt;b&gt;&quot;x&quot; &amp; &#39;y&#39;&lt;/b&gt;');
  expect(page).toContain('<a href="a%20b.json">a b.json</a>');
});

test('a dense run is a row of the table with nothing about routing', () => {
  const page = reportPage({ ...report, runs: [report.runs[2]] }, 'report.json');
  expect(page).toContain('4 blocks, dense');
  expect(page.match(/<section/g)).toHaveLength(1);
});
