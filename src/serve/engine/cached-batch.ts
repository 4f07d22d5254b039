/**
 * Texts of a language model that keep keys and values of what they have read and written.
 * @module
 */
import { bucket, type Pass, type Passes } from '../../decode/index.js';
import { cast, input } from '../../graph/index.js';
import { cacheInputs, cacheOutputs, type LanguageModel } from '../../models/index.js';
import type { Results } from '../../runtime/index.js';
import { doubled, GrowingLanes } from './growing-lanes.js';
import { Lane } from './lane.js';
import { computeFor } from './pass-error.js';
import type { RoutingTap } from './routing-tap.js';
import { ServedText, type TextBatch, type TextWishes } from './text-batch.js';

/** Slots of the smallest lane; others double. */
const LEAST_CAPACITY = 256;
/** Tokens of the smallest reading pass. Sizes grow fourfold, as every one is compiled. */
const [LEAST_TIME, GROWTH] = [16, 4];
/** Prompts that are read together at most. */
const MOST_READ = 16;

/**
 * Prompts are read in parts, in lanes of their own, so that texts that are being written wait for a part and not for a
 * prompt; and several prompts in one pass, so that they share the experts that it loads. Reading and writing passes differ
 * in their shapes alone. Lanes of different lengths take turns, so that a long prompt holds up no short one.
 */
export class CachedBatch implements TextBatch {
  private readonly waiting: ServedText[] = [];
  private readonly reading = new Map<number, Lane<ServedText>>();
  private readonly writing: GrowingLanes;

  constructor(
    private readonly model: LanguageModel,
    private readonly passes: Passes,
    private readonly tap: RoutingTap,
  ) {
    this.writing = new GrowingLanes(
      (_, length) => {
        const capacity = this.capacity(length);
        return [String(capacity), () => new Lane(model.cacheSizes, capacity)];
      },
      (lane, tokens) =>
        this.run(
          lane,
          1,
          tokens.map((token) => (token === undefined ? [] : [token])),
        ),
      tap,
    );
  }

  get maxPrompt(): number {
    return this.model.windowLength - 1;
  }

  room(promptLength: number): number {
    return this.model.windowLength - promptLength;
  }

  before(prompt: readonly number[]): readonly number[] {
    return prompt;
  }

  footprint(promptLength: number, added: number): number {
    const ofToken = this.model.cacheSizes
      .flatMap((parts) => Object.values(parts))
      .reduce((sum, { heads, size }) => sum + heads * size, 0);
    return 4 * this.capacity(promptLength + added) * ofToken;
  }

  /** Compiles the passes that a single short request needs. */
  async open(): Promise<this> {
    await this.pass(1, 1, this.capacity(1));
    await this.pass(1, this.time(1), this.capacity(1));
    return this;
  }

  add(prompt: readonly number[], wishes: TextWishes): ServedText {
    const text = new ServedText(prompt, wishes);
    this.waiting.push(text);
    return text;
  }

  async readOn(budget: number): Promise<readonly ServedText[] | undefined> {
    this.seatWaiting();
    const next = [...this.reading].find(([, { texts }]) => texts.length > 0);
    if (!next) return undefined;
    const [capacity, lane] = next;
    // To the end of the row: the other lanes come first next time.
    this.reading.delete(capacity);
    this.reading.set(capacity, lane);
    const batch = doubled(lane.texts.length, GROWTH);
    const share = Math.max(LEAST_TIME, Math.floor(budget / batch));
    const parts = lane.texts.map(({ prompt, read }) => prompt.slice(read, read + share));
    const time = this.time(Math.max(...parts.map(({ length }) => length)));
    const rows = Array.from({ length: batch }, (_, row) => parts[row] ?? []);
    const scoreAll = lane.texts.some(({ wishes }) => wishes.onScores);
    const results = await computeFor(lane.texts, () => this.run(lane, time, rows, scoreAll));
    lane.append(
      results,
      time,
      rows.map(({ length }) => length),
    );
    const done = [...lane.texts].filter((text) =>
      this.tell(text, parts[text.row], results, { batch, time, scoreAll }),
    );
    for (const text of done) this.writing.place(text, text.read);
    return done;
  }

  fork(text: ServedText, wishes: TextWishes): ServedText {
    const copy = new ServedText(text.prompt, wishes);
    copy.read = text.read;
    copy.scores = text.scores;
    this.writing.place(copy, text.lane!.lengthOf(text), text);
    return copy;
  }

  async write(tokens: ReadonlyMap<ServedText, number>): Promise<void> {
    await this.writing.write(tokens);
  }

  remove(text: ServedText): void {
    if (text.lane) return text.lane.remove(text);
    const at = this.waiting.indexOf(text);
    if (at >= 0) this.waiting.splice(at, 1);
  }

  private seatWaiting(): void {
    for (const text of [...this.waiting]) {
      const capacity = this.capacity(text.prompt.length);
      let lane = this.reading.get(capacity);
      if (!lane) this.reading.set(capacity, (lane = new Lane(this.model.cacheSizes, capacity)));
      if (lane.texts.length >= MOST_READ) continue;
      this.waiting.splice(this.waiting.indexOf(text), 1);
      lane.add(text);
    }
  }

  /** Tells what a pass computed of a part of a prompt. Returns whether that was its last. */
  private tell(
    text: ServedText,
    part: readonly number[],
    results: Results,
    { batch, time, scoreAll }: { readonly batch: number; readonly time: number; readonly scoreAll: boolean },
  ): boolean {
    const logits = results['logits'] as Float32Array;
    const width = logits.length / (scoreAll ? batch * time : batch);
    const scores = (row: number): Float32Array => logits.subarray(row * width, (row + 1) * width);
    const first = text.row * time;
    for (let i = 0; i < part.length; i++) {
      text.wishes.onScores?.(text.read + i, scores(first + i));
      text.wishes.onRouting?.(this.tap.read(results, first + i));
    }
    text.read += part.length;
    text.scores = scores(scoreAll ? first + part.length - 1 : text.row);
    return text.read === text.prompt.length;
  }

  private capacity(length: number): number {
    return bucket(length, LEAST_CAPACITY, this.model.windowLength);
  }

  private time(length: number): number {
    let time = LEAST_TIME;
    while (time < length) time *= GROWTH;
    return Math.min(time, this.model.windowLength);
  }

  /** @param rows tokens of the first texts of the lane, at most `time`; none for those that wait */
  private async run(
    lane: Lane<ServedText>,
    time: number,
    rows: readonly (readonly number[])[],
    scoreAll = false,
  ): Promise<Results> {
    const batch = rows.length;
    const pass = await this.pass(batch, time, lane.capacity, scoreAll);
    const [tokens, mask] = [new Int32Array(batch * time), new Uint8Array(batch * time)];
    rows.forEach((row, text) => {
      tokens.set(row, text * time);
      mask.fill(1, text * time, text * time + row.length);
    });
    const last = Int32Array.from(rows, ({ length }, text) => text * time + Math.max(length - 1, 0));
    return pass.run({ tokens, mask, ...(scoreAll ? {} : { last }), ...lane.feeds(batch) });
  }

  private pass(batch: number, time: number, capacity: number, scoreAll = false): Promise<Pass> {
    const name = `${batch} × ${time} after ${capacity} with experts${scoreAll ? ' and all scores' : ''}`;
    return this.passes.get(name, (context) => {
      const { logits, cache, records } = this.model.forward(
        {
          tokens: input('tokens', 'int32', [batch, time]),
          mask: cast(input('mask', 'bool', [batch, time]), 'float32'),
          ...(scoreAll ? {} : { logitRows: input('last', 'int32', [batch]) }),
          cache: cacheInputs(this.model.cacheSizes, batch, capacity),
        },
        context,
      );
      return { logits, ...cacheOutputs(cache!), ...this.tap.outputs(records) };
    });
  }
}
