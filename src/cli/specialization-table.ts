/**
 * Draws a class × expert table for a terminal.
 * @module
 */
import type { SpecializationTable } from '../analyze/index.js';

/** From nothing to everything, by share. */
const SHADES = [' ', '░', '▒', '▓', '█'];

/** Shares below this are left blank. */
const VISIBLE = 0.05;

/** Rows are classes grouped by the expert that sees most of them; a cell is the percentage of the class's tokens. */
export function drawSpecialization(table: SpecializationTable): string {
  const shares = table.shares();
  const favourite = (row: readonly number[]): number => row.indexOf(Math.max(...row));
  const order = table.classes
    .map((name, i) => ({ name, row: shares[i] }))
    .filter(({ row }) => row.some((share) => share > 0))
    .sort((a, b) => favourite(a.row) - favourite(b.row) || Math.max(...b.row) - Math.max(...a.row));
  const width = Math.max(8, ...table.classes.map((name) => name.length));
  const header = Array.from({ length: table.numExperts }, (_, expert) => `e${expert}`.padStart(6)).join('');
  const cell = (share: number): string => {
    if (share < VISIBLE) return '     ·';
    const shade = SHADES[Math.min(SHADES.length - 1, Math.ceil(share * (SHADES.length - 1)))];
    return `${shade}${String(Math.round(share * 100)).padStart(2)} %`.padStart(6);
  };
  return [
    `Who handles what in layer ${table.layer}: share of each language's tokens by expert`,
    `(mutual information of language and expert ${table.mutualInformation().toFixed(2)}; 0 = experts ignore the language)`,
    `${''.padEnd(width)}${header}`,
    ...order.map(({ name, row }) => `${name.padEnd(width)}${row.map(cell).join('')}`),
  ].join('\n');
}
