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

const bytes = new Map(byteCharacters.map((character, byte) => [character, byte]));

/** The bytes that a vocabulary entry spells, or undefined if it has a character outside the alphabet. */
export function bytesOf(token: string): Uint8Array | undefined {
  const out = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = bytes.get(token[i]);
    if (byte === undefined) return undefined;
    out[i] = byte;
  }
  return out;
}
