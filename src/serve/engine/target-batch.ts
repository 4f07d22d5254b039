/**
 * Targets that an encoder–decoder writes: sources are read whole, then every target goes on from a cache of its own.
 * @module
 */
import { bucket, type Pass, type Passes } from '../../decode/index.js';
import { cast, input } from '../../graph/index.js';
import { cacheInputs, cacheOutputs, type EncoderDecoder } from '../../models/index.js';
import type { CacheEntry } from '../../nn/index.js';
import type { Results } from '../../runtime/index.js';
import { doubled, GrowingLanes } from './growing-lanes.js';
import { Lane, type FixedPart } from './lane.js';
import { computeFor } from './pass-error.js';
import type { RoutingTap } from './routing-tap.js';
import { ServedText, type TextBatch, type TextWishes } from './text-batch.js';

/** Least sizes that programs are compiled for; larger ones double. */
const [LEAST_SOURCE, LEAST_CAPACITY] = [16, 64];
/** Sources that are read together at most. */
const MOST_READ = 16;

/** Keys and values of the source lie beside the target's own, so that texts of one lane share a pass. */
export class TargetBatch implements TextBatch {
  private readonly waiting: ServedText[] = [];
  private readonly lanes: GrowingLanes;
  private readonly startToken: number;

  /** @throws RangeError if the decoder needs whole targets, or the model does not say with which token they begin. */
  constructor(
    private readonly model: EncoderDecoder,
    private readonly passes: Passes,
    private readonly tap: RoutingTap,
  ) {
    const { wholeText, cacheSizes } = model.decoder;
    if (wholeText !== undefined) throw new RangeError(`the model cannot use a cache: ${wholeText}`);
    const { decoderStartTokenId, padTokenId } = model.options;
    const start = decoderStartTokenId ?? padTokenId;
    if (start === undefined)
      throw new RangeError(
        'the model does not say with which token a target begins: set decoderStartTokenId or padTokenId in its config.json',
      );
    this.startToken = start;
    this.lanes = new GrowingLanes(
      ({ prompt }, length) => {
        const [time, capacity] = [this.sourceTime(prompt.length), this.capacity(length)];
        return [`${time} ${capacity}`, () => new Lane(cacheSizes, capacity, this.fixedParts(time))];
      },
      (lane, tokens) => this.step(lane, tokens),
      tap,
    );
  }

  get maxPrompt(): number {
    return this.model.options.contextLength;
  }

  /** The start token takes a place, and the last token none. */
  room(): number {
    return this.model.decoder.maxTime;
  }

  before(): readonly number[] {
    return [this.startToken];
  }

  footprint(promptLength: number, added: number): number {
    const { decoder } = this.model;
    const ofToken = decoder.cacheSizes
      .flatMap((parts) => Object.values(parts))
      .reduce((sum, { heads, size }) => sum + heads * size, 0);
    const time = this.sourceTime(promptLength);
    return 4 * (this.capacity(added) * ofToken + 2 * decoder.blocks.length * this.sourceWidth(time));
  }

  /** Compiles the passes that a single short request needs. */
  async open(): Promise<this> {
    const time = this.sourceTime(1);
    await this.reader(1, time);
    await this.decoder(1, time, this.capacity(1));
    return this;
  }

  add(prompt: readonly number[], wishes: TextWishes): ServedText {
    const text = new ServedText(prompt, wishes);
    this.waiting.push(text);
    return text;
  }

  async readOn(budget: number): Promise<readonly ServedText[] | undefined> {
    if (this.waiting.length === 0) return undefined;
    const time = this.sourceTime(this.waiting[0].prompt.length);
    const most = Math.max(1, Math.min(MOST_READ, Math.floor(budget / time)));
    const texts = this.waiting.filter(({ prompt }) => this.sourceTime(prompt.length) === time).slice(0, most);
    for (const text of texts) this.remove(text);
    const batch = doubled(texts.length);
    const [source, sourceMask] = [new Int32Array(batch * time), new Uint8Array(batch * time)];
    texts.forEach(({ prompt }, row) => {
      source.set(prompt, row * time);
      sourceMask.fill(1, row * time, row * time + prompt.length);
    });
    const results = await computeFor(texts, async () => {
      const pass = await this.reader(batch, time);
      return pass.run({ source, sourceMask });
    });
    texts.forEach((text, row) => {
      text.read = text.prompt.length;
      this.lanes.place(text, 1);
      for (const [name, { width }] of this.fixedParts(time)) {
        const numbers = name === 'sourceMask' ? sourceMask : results[name];
        text.lane!.fix(text, name, numbers.subarray(row * width, (row + 1) * width));
      }
      for (let i = 0; i < text.prompt.length; i++)
        text.wishes.onRouting?.(this.tap.read(results, row * time + i));
    });
    await this.write(new Map(texts.map((text) => [text, this.startToken])));
    return texts;
  }

  fork(text: ServedText, wishes: TextWishes): ServedText {
    const copy = new ServedText(text.prompt, wishes);
    copy.read = text.read;
    copy.scores = text.scores;
    this.lanes.place(copy, text.lane!.lengthOf(text), text);
    return copy;
  }

  async write(tokens: ReadonlyMap<ServedText, number>): Promise<void> {
    await this.lanes.write(tokens);
  }

  remove(text: ServedText): void {
    if (text.lane) return text.lane.remove(text);
    const at = this.waiting.indexOf(text);
    if (at >= 0) this.waiting.splice(at, 1);
  }

  private capacity(length: number): number {
    return bucket(length, LEAST_CAPACITY, this.model.decoder.maxTime);
  }

  private sourceTime(length: number): number {
    return bucket(length, LEAST_SOURCE, this.model.options.contextLength);
  }

  private get headSize(): number {
    const { numHeads, hiddenSize, headSize = hiddenSize / numHeads } = this.model.options;
    return headSize;
  }

  /** Numbers of a source's keys, or values, in one block. */
  private sourceWidth(time: number): number {
    return this.model.options.numHeads * time * this.headSize;
  }

  private fixedParts(time: number): Map<string, FixedPart> {
    const part: FixedPart = { width: this.sourceWidth(time), dtype: 'float32' };
    return new Map([
      ...this.model.decoder.blocks.flatMap((_, layer) =>
        ['key', 'value'].map((name) => [`cross.${layer}.${name}`, part] as const),
      ),
      ['sourceMask', { width: time, dtype: 'bool' }],
    ]);
  }

  private async step(lane: Lane<ServedText>, tokens: readonly (number | undefined)[]): Promise<Results> {
    const time = this.sourceTime(lane.texts[0].prompt.length);
    const pass = await this.decoder(tokens.length, time, lane.capacity);
    return pass.run({
      target: Int32Array.from(tokens, (token) => token ?? 0),
      mask: Uint8Array.from(tokens, (token) => Number(token !== undefined)),
      ...lane.feeds(tokens.length),
    });
  }

  private reader(batch: number, time: number): Promise<Pass> {
    return this.passes.get(`read ${batch} × ${time} with experts`, (context) => {
      const source = input('source', 'int32', [batch, time]);
      const sourceMask = cast(input('sourceMask', 'bool', [batch, time]), 'float32');
      const { states, records } = this.model.encode({ source, sourceMask }, context);
      const read = this.model.decoder.blocks.flatMap(({ crossAttention }, layer) =>
        Object.entries(crossAttention!.keysAndValues(states)).map(
          ([name, tensor]) => [`cross.${layer}.${name}`, tensor] as const,
        ),
      );
      return { ...Object.fromEntries(read), ...this.tap.outputs(records) };
    });
  }

  private decoder(batch: number, sourceTime: number, capacity: number): Promise<Pass> {
    return this.passes.get(`${batch} after ${capacity}, source ${sourceTime}, with experts`, (context) => {
      const { decoder, options } = this.model;
      const shape = [batch, options.numHeads, sourceTime, this.headSize];
      const states = decoder.blocks.map((_, layer): CacheEntry => ({
        key: input(`cross.${layer}.key`, 'float32', shape),
        value: input(`cross.${layer}.value`, 'float32', shape),
      }));
      const { logits, cache, records } = this.model.decode(
        {
          target: input('target', 'int32', [batch, 1]),
          targetMask: cast(input('mask', 'bool', [batch, 1]), 'float32'),
          states,
          sourceMask: cast(input('sourceMask', 'bool', [batch, sourceTime]), 'float32'),
          cache: cacheInputs(decoder.cacheSizes, batch, capacity),
        },
        context,
      );
      return { logits, ...cacheOutputs(cache!), ...this.tap.outputs(records) };
    });
  }
}
