/**
 * The report as one HTML page that needs nothing else: no script, no font, no network.
 * @module
 */
import { percent, runColor, short } from './draw.js';
import type { Figure, Panel } from './figure.js';
import { figures } from './figures/index.js';
import { escapeHtml } from './html.js';
import type { Report, RunReport } from './report-data.js';
import { style } from './style.js';

/**
 * Draws the page.
 * @param json name of the file with the report's numbers, beside the page
 */
export function reportPage(report: Report, json: string): string {
  const title = `Report: ${report.runs.map(({ name }) => name).join(', ')}`;
  const drawn = figures
    .map((figure) => ({ figure, panels: figure.draw(report) }))
    .filter(({ panels }) => panels.length > 0);
  const links = drawn.map(({ figure: { id, title: name } }) => `<a href="#${id}">${escapeHtml(name)}</a>`);
  const heading = report.runs.map(({ name }) => name).join(' · ');
  const lead = `How these runs learnt and how they route, on ${escapeHtml(report.data)}. Every number is in ${linkTo(json)}.`;
  return pageOf({ title, heading, lead, table: runTable(report.runs), links, sections: drawn.map(section) });
}

/** A link to the file with the numbers. */
export function linkTo(json: string): string {
  return `<a href="${escapeHtml(encodeURIComponent(json))}">${escapeHtml(json)}</a>`;
}

/** The frame of a page; `lead`, `table`, `links` and `sections` are markup. */
export function pageOf({
  title,
  heading,
  lead,
  table,
  links,
  sections,
}: {
  readonly title: string;
  readonly heading: string;
  readonly lead: string;
  readonly table: string;
  readonly links: readonly string[];
  readonly sections: readonly string[];
}): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<link rel="icon" href="data:,">
<style>${style}</style>
</head>
<body>
<main>
<header>
<h1>${escapeHtml(heading)}</h1>
<p class="lead">${lead}</p>
${table}
<nav aria-label="Figures">${links.join('\n')}</nav>
</header>
${sections.join('\n')}
<footer>Made by switchyard. Point at a mark to see its number.</footer>
</main>
</body>
</html>
`;
}

/** A figure with its panels as a section. */
export function section<Data>({
  figure,
  panels,
}: {
  readonly figure: Figure<Data>;
  readonly panels: readonly Panel[];
}): string {
  const { id, title, reading, numbers } = figure;
  const drawings = panels.map(({ caption, markup }) => {
    return `<figure>${caption === '' ? '' : `<figcaption>${escapeHtml(caption)}</figcaption>`}${markup}</figure>`;
  });
  return `<section id="${id}" aria-labelledby="${id}-title">
<h2 id="${id}-title">${escapeHtml(title)}</h2>
<p class="reading">${escapeHtml(reading)}</p>
<div class="panels">
${drawings.join('\n')}
</div>
<p class="numbers">Numbers: <code>${escapeHtml(numbers)}</code></p>
</section>`;
}

function runTable(runs: readonly RunReport[]): string {
  const head = [
    'Run',
    '',
    'Parameters',
    'active',
    'Validation loss',
    'bits per byte',
    'Effective experts',
    'Agreement of layers',
  ];
  const rows = runs.map((run, index) => {
    const { name, architecture, parameters, activeParameters, history, routing } = run;
    const last = history.validation.at(-1);
    const profiles = routing?.profiles ?? [];
    const effective =
      profiles.reduce((sum, p) => sum + p.effectiveExperts / p.visibleExperts, 0) / profiles.length;
    const { matched, matchedChance } = routing?.agreement.statistics ?? {};
    const cells = [
      short(parameters),
      short(activeParameters),
      last ? last.loss.toFixed(4) : '–',
      last ? last.bitsPerByte.toFixed(4) : '–',
      profiles.length > 0 ? percent(effective) : '–',
      matched && matchedChance && profiles.length > 1
        ? `${percent(matched.all)} (chance ${percent(matchedChance.all)})`
        : '–',
    ];
    const key = `<span class="key" style="background:${runColor(index)}"></span>`;
    return `<tr><th scope="row">${key}${escapeHtml(name)}</th><td class="what">${escapeHtml(architecture)}</td>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`;
  });
  return `<div class="wide"><table class="runs"><thead><tr>${head.map((text) => `<th scope="col">${text}</th>`).join('')}</tr></thead><tbody>${rows.join('')}</tbody></table></div>`;
}
