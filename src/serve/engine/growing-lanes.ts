/**
 * Texts that grow, each in the lane of its length.
 * @module
 */
import type { Results } from '../../runtime/index.js';
import { Lane } from './lane.js';
import { computeEach, computeFor } from './pass-error.js';
import type { RoutingTap } from './routing-tap.js';
import type { ServedText } from './text-batch.js';

/** Runs one more token of the first `rows.length` texts of a lane; undefined for those that wait. */
export type WritePass = (lane: Lane<ServedText>, tokens: readonly (number | undefined)[]) => Promise<Results>;

/** Lanes by their names, which say all sizes that programs are compiled for. */
export class GrowingLanes {
  private readonly lanes = new Map<string, Lane<ServedText>>();

  /**
   * @param seat the name of the lane for a text of so many tokens, and how to make it
   * @param pass computes
   */
  constructor(
    private readonly seat: (text: ServedText, length: number) => readonly [string, () => Lane<ServedText>],
    private readonly pass: WritePass,
    private readonly tap: RoutingTap,
  ) {}

  /** Puts a text where one of `length` tokens belongs, with what it has, or with what another has. */
  place(text: ServedText, length: number, like = text): void {
    const [name, make] = this.seat(text, length);
    let lane = this.lanes.get(name);
    if (!lane) this.lanes.set(name, (lane = make()));
    if (text.lane !== lane) lane.add(text, like);
  }

  /**
   * Adds a token to each of these texts and computes the scores after it; the others wait.
   * @throws PassError when all lanes have had their turn
   */
  async write(tokens: ReadonlyMap<ServedText, number>): Promise<void> {
    for (const text of tokens.keys()) this.place(text, text.lane!.lengthOf(text) + 1);
    await computeEach(this.lanes.values(), (lane) => this.writeIn(lane, tokens));
  }

  private async writeIn(lane: Lane<ServedText>, tokens: ReadonlyMap<ServedText, number>): Promise<void> {
    const texts = lane.texts.filter((text) => tokens.has(text));
    if (texts.length === 0) return;
    const rows = doubled(lane.texts.length);
    const added = Array.from({ length: rows }, (_, row) => tokens.get(lane.texts[row]));
    const results = await computeFor(texts, () => this.pass(lane, added));
    lane.append(
      results,
      1,
      added.map((token) => Number(token !== undefined)),
    );
    const logits = results['logits'] as Float32Array;
    const width = logits.length / rows;
    for (const text of texts) {
      text.scores = logits.subarray(text.row * width, (text.row + 1) * width);
      text.wishes.onRouting?.(this.tap.read(results, text.row));
    }
  }
}

/** The least power of `factor` that is no less than a number. */
export function doubled(count: number, factor = 2): number {
  let size = 1;
  while (size < count) size *= factor;
  return size;
}
