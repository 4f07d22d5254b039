/**
 * Lines of a corpus, written one after another into full rows.
 * @module
 */
import type { LineCorpus } from '../corpus.js';
import { separatorOf, type Tokenizer } from '../tokenizers/tokenizer.js';
import {
  checkState,
  createBatch,
  type Batch,
  type BatchShape,
  type BatchSource,
  type BatchState,
} from './batch.js';
import { MemoryTokens } from './token-source.js';

/** What a reader of lines needs. */
export interface LineBatchOptions extends BatchShape {
  readonly tokenizer: Tokenizer;
  /** Decides the lines together with their index; a saved position names it. */
  readonly fingerprint: string;
}

/**
 * Rows without padding: the training lines in their order, each closed by the separator (the end-of-text token, or a
 * newline where there is none), cut wherever a row ends. Row after row every token is predicted once.
 */
export class PackedLines implements BatchSource {
  readonly batchSize: number;
  readonly contextLength: number;
  readonly #batch: Batch;
  readonly #separator: number;
  #line = 0;
  #offset = 0;
  #current: { readonly tokens: Int32Array; readonly language: number };

  constructor(
    readonly corpus: LineCorpus,
    readonly options: LineBatchOptions,
  ) {
    this.batchSize = options.batchSize;
    this.contextLength = options.contextLength;
    this.#batch = createBatch(options, true);
    this.#separator = separatorOf(options.tokenizer);
    this.#current = this.#read(0);
  }

  next(): Batch {
    const { tokens, targets, mask, languages } = this.#batch;
    for (let index = 0; index < tokens.length; index++) {
      tokens[index] = this.#token();
      languages![index] = this.#current.language;
      this.#advance();
      // The token after this one, which is also the first of the next row.
      targets[index] = this.#token();
    }
    mask.fill(1);
    return this.#batch;
  }

  state(): BatchState {
    return { ...this.#facts(), line: this.#line, offset: this.#offset };
  }

  restore(state: BatchState): void {
    const { line, offset } = checkState(state, this.#facts(), ['line', 'offset']);
    const current = this.#read(line);
    if (offset > current.tokens.length) {
      throw new Error(
        `the saved data position is token ${offset} of line ${line}, which has ${current.tokens.length + 1} tokens`,
      );
    }
    this.#line = line;
    this.#offset = offset;
    this.#current = current;
  }

  #token(): number {
    const { tokens } = this.#current;
    return this.#offset < tokens.length ? tokens[this.#offset] : this.#separator;
  }

  #advance(): void {
    if (this.#offset++ < this.#current.tokens.length) return;
    this.#line++;
    this.#offset = 0;
    this.#current = this.#read(this.#line);
  }

  #read(index: number): { tokens: Int32Array; language: number } {
    // A finite corpus begins again.
    const { text, language } = this.corpus.line('train', index % this.corpus.lineCount('train'));
    return { tokens: this.options.tokenizer.encode(text), language };
  }

  #facts(): BatchState {
    const { batchSize, contextLength } = this;
    const { fingerprint, tokenizer } = this.options;
    return {
      order: 'packed',
      batchSize,
      contextLength,
      corpus: fingerprint,
      tokenizer: tokenizer.fingerprint,
    };
  }
}

/** The first validation lines of a corpus as one run of tokens with their languages, each line closed by the separator. */
export function packValidation(
  corpus: LineCorpus,
  tokenizer: Tokenizer,
  lineCount: number,
  fingerprint: string,
): MemoryTokens {
  const separator = separatorOf(tokenizer);
  const tokens: number[] = [];
  const languages: number[] = [];
  const count = Math.min(lineCount, corpus.lineCount('validation'));
  for (let index = 0; index < count; index++) {
    const { text, language } = corpus.line('validation', index);
    for (const token of tokenizer.encode(text)) tokens.push(token);
    tokens.push(separator);
    while (languages.length < tokens.length) languages.push(language);
  }
  return new MemoryTokens(
    Int32Array.from(tokens),
    `${fingerprint} validation ${count}`,
    Int32Array.from(languages),
  );
}
