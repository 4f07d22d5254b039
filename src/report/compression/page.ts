/**
 * The page about compressed models.
 * @module
 */
import { runColor, short } from '../draw.js';
import { escapeHtml } from '../html.js';
import { linkTo, pageOf, section } from '../page.js';
import type { CompressedModel, CompressionReport } from './data.js';
import { compressionFigures } from './figures.js';

/**
 * Draws the page.
 * @param json name of the file with the report's numbers, beside the page
 */
export function compressionPage(report: CompressionReport, json: string): string {
  const { models, data } = report;
  const drawn = compressionFigures
    .map((figure) => ({ figure, panels: figure.draw(report) }))
    .filter(({ panels }) => panels.length > 0);
  const on = data === null ? '' : `, and what they say on ${escapeHtml(data)}`;
  return pageOf({
    title: `Compression: ${models.map(({ name }) => name).join(', ')}`,
    heading: models.map(({ name }) => name).join(' · '),
    lead: `How these models were made smaller, what their experts lost${on}. Every number is in ${linkTo(json)}.`,
    table: modelTable(models),
    links: drawn.map(({ figure: { id, title } }) => `<a href="#${id}">${escapeHtml(title)}</a>`),
    sections: drawn.map(section),
  });
}

function modelTable(models: readonly CompressedModel[]): string {
  const head = ['Model', 'method', 'layers', 'MB on disk', 'ρ', 'error of energy', 'loss'];
  const rows = models.map(({ name, bytes, loss, compression }, index) => {
    const layers = compression?.layers ?? [];
    const mean = (of: (layer: (typeof layers)[number]) => number | undefined): string => {
      const values = layers.map(of);
      return values.length === 0 || values.includes(undefined)
        ? '–'
        : ((values as number[]).reduce((sum, value) => sum + value, 0) / values.length).toPrecision(3);
    };
    const cells = [
      compression?.method ?? 'original',
      String(layers.length),
      short(bytes / 1e6),
      mean(({ report }) => report.redundancy?.ratio),
      mean(({ report: { error, energy } }) => (energy === 0 ? 0 : error / energy)),
      loss === null ? '–' : loss.toFixed(4),
    ];
    const key = `<span class="key" style="background:${runColor(index)}"></span>`;
    return `<tr><th scope="row">${key}${escapeHtml(name)}</th>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`;
  });
  return `<div class="wide"><table class="runs"><thead><tr>${head.map((text) => `<th scope="col">${text}</th>`).join('')}</tr></thead><tbody>${rows.join('')}</tbody></table></div>`;
}
