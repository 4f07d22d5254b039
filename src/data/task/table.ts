/**
 * Tab-separated files, as GLUE comes in: a header line, one example a line, no quoting.
 * @module
 */
import { readText, wholeFile } from '../text/text-range.js';

/** A table in memory. */
export interface Table {
  readonly path: string;
  readonly columns: readonly string[];
  /** Cells by row, as many as there are columns. */
  readonly rows: readonly (readonly string[])[];
}

/**
 * Reads a table. Empty lines at the end do not count.
 * @throws Error naming the file, and the line where it has too few or too many cells.
 */
export async function readTable(path: string): Promise<Table> {
  let text = '';
  for await (const piece of readText(await wholeFile(path))) text += piece;
  const lines = text.replace(/(\r?\n)+$/, '').split(/\r?\n/);
  const columns = lines[0].split('\t');
  const twice = columns.find((name, at) => columns.indexOf(name) !== at);
  if (twice !== undefined) throw new Error(`${path}: two columns are called ${JSON.stringify(twice)}`);
  if (lines.length < 2) throw new Error(`${path} has a header line and no example`);
  const rows = lines.slice(1).map((line, index) => {
    const cells = line.split('\t');
    if (cells.length === columns.length) return cells;
    throw new Error(
      `${path}, line ${index + 2}: ${cells.length} cells, but the header names ${columns.length} columns (${columns.join(', ')})`,
    );
  });
  return { path, columns, rows };
}

/**
 * Where a column stands.
 * @throws Error naming the file and the columns that it has.
 */
export function columnOf({ path, columns }: Table, name: string): number {
  const at = columns.indexOf(name);
  if (at >= 0) return at;
  throw new Error(`${path} has no column ${JSON.stringify(name)}; it has ${columns.join(', ')}`);
}

/**
 * The text of a template for every row: `{name}` stands for the cell of a column. Spaces around a cell are left out.
 * @throws Error if a column is not there.
 */
export function fillTemplate(template: string, table: Table): string[] {
  // Texts and names of columns take turns.
  const parts = template.split(/\{([^{}]*)\}/);
  const columns = parts.map((part, i) => (i % 2 === 0 ? -1 : columnOf(table, part)));
  return table.rows.map((cells) =>
    parts.map((part, i) => (columns[i] < 0 ? part : cells[columns[i]].trim())).join(''),
  );
}
