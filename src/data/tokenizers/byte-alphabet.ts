/**
 * The byte alphabet of GPT-2: one printable character for each of the 256 bytes, so that a vocabulary file can
 * spell any bytes as text.
 * @module
 */

const isPlain = (byte: number): boolean =>
  (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);

/** The character of each byte: printable Latin-1 stands for itself, the others for U+0100 and up. */
export const byteCharacters: readonly string[] = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPlain(byte) ? byte : next++));
})();
