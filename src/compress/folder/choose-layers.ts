/**
 * Which layers of a model to compress.
 * @module
 */

/**
 * The layers that a text names: `all`, `last:4` (of each stack: encoder and decoder have four each), or a list such as
 * `blocks.1,blocks.3` or `1,3`, a number being a block of every stack.
 *
 * @param names of all layers of experts, in the order of the model.
 * @throws RangeError naming what is not there.
 */
export function chooseLayers(text: string, names: readonly string[]): string[] {
  if (names.length === 0)
    throw new RangeError('the model has no layers of experts: there is nothing to compress');
  if (text === 'all') return [...names];
  const last = /^last:(\d+)$/.exec(text);
  if (last) {
    const count = Number(last[1]);
    if (count === 0) throw new RangeError('--layers last:0 leaves nothing to compress');
    const stacks = [...new Set(names.map(stackOf))];
    const chosen = new Set(
      stacks.flatMap((stack) => names.filter((name) => stackOf(name) === stack).slice(-count)),
    );
    return names.filter((name) => chosen.has(name));
  }
  const chosen = new Set<string>();
  for (const wanted of text.split(',').map((part) => part.trim())) {
    const found = names.filter((name) => name === wanted || /\d+$/.exec(name)![0] === wanted);
    if (found.length === 0)
      throw new RangeError(
        `--layers ${text}: '${wanted}' is no layer of experts; there are ${names.join(', ')}`,
      );
    for (const name of found) chosen.add(name);
  }
  return names.filter((name) => chosen.has(name));
}

/** `encoder.blocks` of `encoder.blocks.1` */
function stackOf(name: string): string {
  return name.replace(/\.\d+$/, '');
}
