import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { expectSameAsFile } from '../../../test/support/snapshot.js';
import { compressionFigures } from './figures.js';
import { compressionPage } from './page.js';
import type { CompressionReport } from './data.js';

const folder = fileURLToPath(new URL('../../../test/snapshots/report/', import.meta.url));

const layer = (name: string, error: number, kept: number) => ({
  name,
  report: { error, energy: 4, redundancy: { energies: [4], residuals: [2], ratio: 0.5 } },
  spectrum: [4, 2, 1, 0.5].map((value, i) => value / (1 + i * kept)),
  before: { parameters: 100, bytes: 400 },
  after: { parameters: 40, bytes: 180 },
});
const model = (name: string, perExpert: number, loss: number): CompressionReport['models'][number] => ({
  name,
  bytes: 1e6 * (1 + 4 * perExpert),
  loss,
  compression: {
    version: 1,
    method: 'resmoe',
    options: { residual: 'up', perExpert },
    layers: [layer('blocks.1', 1 - perExpert, perExpert), layer('blocks.3', 0.7 - perExpert, perExpert)],
  },
});
const report: CompressionReport = {
  version: 1,
  data: 'text.txt',
  models: [
    { name: 'model', bytes: 5e6, loss: 2.5, compression: null },
    model('<small>', 0.1, 3.1),
    model('larger', 0.5, 2.6),
  ],
};

test.each(
  compressionFigures.flatMap((figure) =>
    figure.draw(report).map((panel, i) => [figure.id, i, panel] as const),
  ),
)('figure %s, panel %i, is drawn as it was', (id, i, { markup }) => {
  expect(markup).not.toMatch(/NaN|undefined|Infinity/);
  expect(markup).toMatch(/^<svg[^>]*role="img"/);
  const text = markup.replace('<svg ', '<svg xmlns="http://www.w3.org/2000/svg" ').replaceAll('><', '>\n<');
  expectSameAsFile(`${folder}compression-${id}-${i + 1}.svg`, `${text}\n`);
});

test('the page shows every model, escapes names, and leaves out what has no numbers', () => {
  const page = compressionPage(report, 'page.json');
  expect(page).toContain('&lt;small&gt;');
  expect(page).not.toContain('<small>');
  expect(page).toContain('<section id="spectrum"');
  const bare = { ...report, data: null, models: report.models.map((one) => ({ ...one, loss: null })) };
  expect(compressionPage(bare, 'page.json')).not.toContain('<section id="size"');
});
