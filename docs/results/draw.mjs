/** Small SVG figures for the results: validation loss over steps, and a class × expert map. */

const COLORS = ['#4269d0', '#ff725c', '#3ca951', '#a463f2', '#efb118'];
const escape = (text) => String(text).replace(/[&<>]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[c]);

/** One line a run, one colour a recipe. */
export function drawCurves(title, recipes, runs) {
  const [width, height, left, top, right, bottom] = [640, 360, 56, 36, 16, 44];
  const points = runs.flatMap((run) => run.evaluations);
  const [minX, maxX] = [0, Math.max(...points.map(({ step }) => step))];
  const [minY, maxY] = [Math.min(...points.map(({ loss }) => loss)), Math.max(...points.map(({ loss }) => loss))];
  const x = (step) => left + ((step - minX) / (maxX - minX)) * (width - left - right);
  const y = (loss) => top + ((maxY - loss) / (maxY - minY)) * (height - top - bottom);
  const ticks = Array.from({ length: 5 }, (_, i) => minY + (i / 4) * (maxY - minY));
  const lines = runs.map(({ recipe, evaluations }) => {
    const path = evaluations.map(({ step, loss }) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`).join(' ');
    return `<polyline points="${path}" fill="none" stroke="${COLORS[recipes.indexOf(recipe)]}" stroke-width="1.5" stroke-opacity="0.8"/>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<text x="${left}" y="20" font-weight="600">${escape(title)}: validation loss (nats per token)</text>
${ticks.map((t) => `<line x1="${left}" x2="${width - right}" y1="${y(t)}" y2="${y(t)}" stroke="#ddd"/><text x="${left - 6}" y="${y(t) + 4}" text-anchor="end">${t.toFixed(2)}</text>`).join('\n')}
${[0, 0.25, 0.5, 0.75, 1].map((f) => `<text x="${x(f * maxX)}" y="${height - bottom + 18}" text-anchor="middle">${Math.round(f * maxX)}</text>`).join('')}
<text x="${(left + width - right) / 2}" y="${height - 8}" text-anchor="middle">step</text>
${lines.join('\n')}
${recipes.map((recipe, i) => `<rect x="${width - right - 170}" y="${top + 8 + i * 18}" width="12" height="3" fill="${COLORS[i]}"/><text x="${width - right - 152}" y="${top + 13 + i * 18}">${escape(recipe)}</text>`).join('')}
</svg>
`;
}

/** Rows of classes, columns of experts, darker where more of the class's tokens go. */
export function drawMap({ layer, languages, counts }) {
  const shares = counts.map((row) => row.map((count) => count / Math.max(1, row.reduce((a, b) => a + b, 0))));
  const favourite = (row) => row.indexOf(Math.max(...row));
  const order = languages.map((_, i) => i).sort((a, b) => favourite(shares[a]) - favourite(shares[b]) || Math.max(...shares[b]) - Math.max(...shares[a]));
  const [cell, left, top] = [22, 56, 56];
  const [width, height] = [left + cell * languages.length + 16, top + cell * counts[0].length + 48];
  const cells = order.flatMap((language, column) =>
    shares[language].map((share, expert) => `<rect x="${left + column * cell}" y="${top + expert * cell}" width="${cell - 1}" height="${cell - 1}" fill="hsl(222 62% ${(97 - 60 * Math.sqrt(share)).toFixed(0)}%)"><title>${languages[language]}, expert ${expert}: ${(100 * share).toFixed(0)} %</title></rect>`),
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="11">
<rect width="100%" height="100%" fill="white"/>
<text x="${left}" y="20" font-size="13" font-weight="600">Who handles what: share of each language's tokens by expert (layer ${layer})</text>
${order.map((language, column) => `<text x="${left + column * cell + cell / 2}" y="${top - 8}" text-anchor="middle">${languages[language]}</text>`).join('')}
${counts[0].map((_, expert) => `<text x="${left - 8}" y="${top + expert * cell + 15}" text-anchor="end">e${expert}</text>`).join('')}
${cells.join('\n')}
<text x="${left}" y="${height - 16}" fill="#555">Nobody told the experts about languages: the router learned it from the task alone.</text>
</svg>
`;
}
