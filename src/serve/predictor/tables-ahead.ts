/**
 * SiDA's pipeline: texts are foretold while earlier ones are served.
 * @module
 */
import type { TextListener } from '../engine/hooks.js';
import { hashTable, type HashTable, type TablePredictor, type TableSource } from './hash-table.js';
import type { LayerPrediction } from './predictor-program.js';

/** Texts that a predictor is asked about at once. */
const TEXTS_TOGETHER = 16;
/** Texts that are foretold and not yet read at most: 16 batches, as in SiDA's released code. */
const TEXTS_AHEAD = 16 * TEXTS_TOGETHER;
/** Questions that a predictor has at once: it must not wait for this thread, which passes block, to ask the next. */
const QUESTIONS = 2;

/** Counters of {@link TablesAhead}. */
export interface PipelineStats {
  /** Passes whose texts were foretold. */
  readonly tables: number;
  /** Those that had to wait for it. */
  readonly tableWaits: number;
  /** Milliseconds in which they waited. */
  readonly tableWaitMilliseconds: number;
}

/** A request that has texts to come; they are forgotten when it is over. */
type Owner = Parameters<TextListener['expect']>[1];

/** A text that a pass will read. */
interface ComingText {
  readonly key: string;
  readonly row: Int32Array;
  /** Once for each time that it will be read. */
  owners: Owner[];
  /** Absent until the predictor is asked. */
  prediction?: Promise<readonly LayerPrediction[]>;
  isReady: boolean;
}

/**
 * Foretells texts in the order in which they are expected, so that a pass finds its table finished. Passes may read them
 * in any order and together with others; what was not expected is foretold when a pass wants it.
 *
 * @example
 * const tables = new TablesAhead(await PredictorProcess.open({ … }));
 * tables.expect(texts, request);
 * for (const text of texts) await classify([text]); // its RoutingSource or Prefetcher takes from `tables`
 */
export class TablesAhead implements TableSource, TextListener {
  private readonly coming = new Map<string, ComingText>();
  private questions = 0;
  private tables = 0;
  private waits = 0;
  private waited = 0;

  /** @param predictor in a process of its own, or its work would hold up the passes that it is to run ahead of. */
  constructor(
    private readonly predictor: TablePredictor,
    private readonly most = TEXTS_AHEAD,
  ) {}

  get stats(): PipelineStats {
    const { tables, waits: tableWaits, waited: tableWaitMilliseconds } = this;
    return { tables, tableWaits, tableWaitMilliseconds };
  }

  /** Texts that have been foretold, or are being so, and that no pass has read. */
  get ahead(): number {
    return [...this.coming.values()].filter(({ prediction }) => prediction !== undefined).length;
  }

  expect(texts: readonly (readonly number[])[], owner: Owner): void {
    for (const text of texts) {
      const key = text.join();
      const known = this.coming.get(key);
      if (known) known.owners.push(owner);
      else this.coming.set(key, { key, row: Int32Array.from(text), owners: [owner], isReady: false });
    }
    this.askAhead();
  }

  /** @throws PredictorError if a text of the pass cannot be foretold. */
  async tableFor(rows: readonly Int32Array[]): Promise<HashTable> {
    if (rows.length === 0) return hashTable(rows, await this.predictor.predict(rows));
    const begin = performance.now();
    const taken = rows.map((row) => this.take(row));
    const wasReady = taken.every((text) => text?.isReady);
    const late = this.ask(rows.filter((_, i) => !taken[i]?.prediction));
    this.askAhead();
    const table = hashTable(
      rows,
      together(await Promise.all(taken.map((text) => text?.prediction ?? late.shift()!))),
    );
    this.tables++;
    if (!wasReady) {
      this.waits++;
      this.waited += performance.now() - begin;
    }
    return table;
  }

  /** A text that is about to be read. */
  private take(row: Int32Array): ComingText | undefined {
    const text = this.coming.get(row.join());
    text?.owners.shift();
    if (text?.owners.length === 0) this.coming.delete(text.key);
    return text;
  }

  /** What the predictor says of each of some texts, about which it is asked at once. */
  private ask(rows: readonly Int32Array[]): Promise<readonly LayerPrediction[]>[] {
    if (rows.length === 0) return [];
    const all = this.predictor.predict(rows);
    let next = 0;
    return rows.map(({ length }) => {
      const begin = next;
      next += length;
      return all.then((layers) => layers.map((layer) => partOf(layer, begin, begin + length)));
    });
  }

  /** Asks about what comes next, as far as there is room. */
  private askAhead(): void {
    for (const text of this.coming.values()) {
      text.owners = text.owners.filter(({ over }) => !over);
      if (text.owners.length === 0) this.coming.delete(text.key);
    }
    while (this.questions < QUESTIONS) {
      const room = Math.min(TEXTS_TOGETHER, this.most - this.ahead);
      const texts = [...this.coming.values()].filter(({ prediction }) => !prediction).slice(0, room);
      if (texts.length === 0) return;
      void this.askAbout(texts);
    }
  }

  private async askAbout(texts: readonly ComingText[]): Promise<void> {
    this.questions++;
    const predictions = this.ask(texts.map(({ row }) => row));
    for (const [i, text] of texts.entries()) text.prediction = predictions[i];
    try {
      await Promise.all(predictions);
      for (const text of texts) text.isReady = true;
    } catch {
      // Passes that are still to come ask once more.
      for (const text of texts) if (this.coming.get(text.key) === text) this.coming.delete(text.key);
    }
    this.questions--;
    this.askAhead();
  }
}

/** What is said of the positions from `begin` to before `end`. */
function partOf(
  { layer, topK, experts, probabilities }: LayerPrediction,
  begin: number,
  end: number,
): LayerPrediction {
  const [from, to] = [begin * topK, end * topK];
  return {
    layer,
    topK,
    experts: experts.subarray(from, to),
    probabilities: probabilities.subarray(from, to),
  };
}

/** What is said of several texts, one after the other. */
function together(texts: readonly (readonly LayerPrediction[])[]): LayerPrediction[] {
  return texts[0].map(({ layer, topK }, l) => {
    const size = texts.reduce((sum, text) => sum + text[l].experts.length, 0);
    const [experts, probabilities] = [new Int32Array(size), new Float32Array(size)];
    let at = 0;
    for (const text of texts) {
      experts.set(text[l].experts, at);
      probabilities.set(text[l].probabilities, at);
      at += text[l].experts.length;
    }
    return { layer, topK, experts, probabilities };
  });
}
