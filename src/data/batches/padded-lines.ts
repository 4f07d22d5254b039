/**
 * Lines of a corpus, one a row.
 * @module
 */
import type { LineCorpus, Split } from '../corpus.js';
import { separatorOf } from '../tokenizers/tokenizer.js';
import {
  checkState,
  createBatch,
  ignoredTarget,
  padRow,
  type Batch,
  type BatchSequence,
  type BatchShape,
  type BatchSource,
  type BatchState,
} from './batch.js';
import type { LineBatchOptions } from './packed-lines.js';

/** Writes lines into rows: begin token, the line, padding; the targets end with the end token. */
class LineRows {
  readonly #begin: number;
  readonly #end: number;
  readonly #pad: number;

  constructor(
    readonly corpus: LineCorpus,
    readonly options: LineBatchOptions,
  ) {
    this.#end = separatorOf(options.tokenizer);
    this.#begin = options.tokenizer.special.bos ?? this.#end;
    this.#pad = options.tokenizer.special.pad ?? 0;
  }

  /** Fills a row with a line, cut if it is longer than the row. Returns the number of targets that count. */
  fill(split: Split, index: number, batch: Batch, shape: BatchShape, row: number): number {
    const { text, language } = this.corpus.line(split, index);
    const line = this.options.tokenizer.encode(text);
    const at = row * shape.contextLength;
    const count = Math.min(line.length + 1, shape.contextLength);
    batch.tokens[at] = this.#begin;
    for (let column = 0; column < count; column++) {
      if (column > 0) batch.tokens[at + column] = line[column - 1]!;
      batch.targets[at + column] = column < line.length ? line[column] : this.#end;
    }
    batch.mask.fill(1, at, at + count);
    batch.languages!.fill(language, at, at + count);
    padRow(batch, shape, row, count, this.#pad);
    return count;
  }

  empty(batch: Batch, shape: BatchShape, row: number): void {
    padRow(batch, shape, row, 0, this.#pad);
  }
}

/**
 * One training line a row, padded: `[begin] line` predicts `line [end]`. Begin is the tokenizer's bos token, or the
 * separator where it has none. Lines longer than the context are cut.
 */
export class PaddedLines implements BatchSource {
  readonly batchSize: number;
  readonly contextLength: number;
  readonly #rows: LineRows;
  readonly #batch: Batch;
  #line = 0;

  constructor(
    readonly corpus: LineCorpus,
    readonly options: LineBatchOptions,
  ) {
    this.batchSize = options.batchSize;
    this.contextLength = options.contextLength;
    this.#rows = new LineRows(corpus, options);
    this.#batch = createBatch(options, true);
  }

  next(): Batch {
    const count = this.corpus.lineCount('train');
    for (let row = 0; row < this.batchSize; row++)
      this.#rows.fill('train', this.#line++ % count, this.#batch, this, row);
    return this.#batch;
  }

  state(): BatchState {
    return { ...this.#facts(), line: this.#line };
  }

  restore(state: BatchState): void {
    this.#line = checkState(state, this.#facts(), ['line']).line;
  }

  #facts(): BatchState {
    const { batchSize, contextLength } = this;
    const { fingerprint, tokenizer } = this.options;
    return {
      order: 'padded',
      batchSize,
      contextLength,
      corpus: fingerprint,
      tokenizer: tokenizer.fingerprint,
    };
  }
}

/** The first validation lines of a corpus, one a row and padded as {@link PaddedLines}. */
export class PaddedValidation implements BatchSequence {
  readonly batchSize: number;
  readonly contextLength: number;
  readonly batchCount: number;
  readonly targetCount: number;
  readonly #rows: LineRows;
  readonly #lineCount: number;

  constructor(corpus: LineCorpus, options: LineBatchOptions, lineCount: number) {
    this.batchSize = options.batchSize;
    this.contextLength = options.contextLength;
    this.#rows = new LineRows(corpus, options);
    this.#lineCount = Math.min(lineCount, corpus.lineCount('validation'));
    this.batchCount = Math.ceil(this.#lineCount / options.batchSize);
    let targets = 0;
    for (const batch of this) for (const target of batch.targets) if (target !== ignoredTarget) targets++;
    this.targetCount = targets;
  }

  *[Symbol.iterator](): Generator<Batch> {
    const batch = createBatch(this, true);
    for (let first = 0; first < this.#lineCount; first += this.batchSize) {
      for (let row = 0; row < this.batchSize; row++) {
        if (first + row < this.#lineCount) this.#rows.fill('validation', first + row, batch, this, row);
        else this.#rows.empty(batch, this, row);
      }
      yield batch;
    }
  }
}
