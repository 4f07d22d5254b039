/**
 * Text in HTML.
 * @module
 */

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Text that is safe in elements and quoted attributes. */
export function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => entities[character]);
}

/** A table of texts; columns after the first are set as numbers. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (tag: string, row: readonly string[]): string =>
    row.map((text) => `<${tag}>${escapeHtml(text)}</${tag}>`).join('');
  const body = rows.map(
    ([first, ...rest]) => `<tr><th scope="row">${escapeHtml(first)}</th>${cells('td', rest)}</tr>`,
  );
  return `<table><thead><tr>${cells('th', head).replaceAll('<th>', '<th scope="col">')}</tr></thead><tbody>${body.join('')}</tbody></table>`;
}
