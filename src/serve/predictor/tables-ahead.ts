/**
 * SiDA's pipeline: tables of later batches are computed while earlier ones are served.
 * @module
 */
import { BoundedQueue } from './bounded-queue.js';
import { hashTable, type HashTable, type TablePredictor, type TableSource } from './hash-table.js';

/** Tables that wait at most, as in SiDA's released code. */
export const TABLES_AHEAD = 16;

/** Counters of {@link TablesAhead}. */
export interface PipelineStats {
  /** Tables that were taken. */
  readonly tables: number;
  /** Tables that were not there yet when they were wanted, the first one left out. */
  readonly waits: number;
  /** Milliseconds that passes waited, the first table left out. */
  readonly waitMilliseconds: number;
  /** Milliseconds that passes waited for the first table. */
  readonly firstMilliseconds: number;
}

interface Entry {
  readonly rows: readonly Int32Array[];
  readonly table: Promise<HashTable>;
  ready: boolean;
}

/**
 * A queue of announced batches on the way to the predictor and of its tables on the way back, bounded together. Passes
 * take the tables in the order in which their batches were announced.
 *
 * @example
 * const tables = new TablesAhead(await PredictorProcess.open({ … }));
 * void (async () => { for (const rows of batches) await tables.announce(rows); tables.end(); })();
 * for (const rows of batches) await classify(rows); // its RoutingSource or Prefetcher takes from `tables`
 */
export class TablesAhead implements TableSource {
  private readonly queue: BoundedQueue<Entry>;
  private tables = 0;
  private waits = 0;
  private waited = 0;
  private firstWait = 0;

  /** @param predictor in a process of its own, or its work would hold up the passes that it is to run ahead of. */
  constructor(
    private readonly predictor: TablePredictor,
    capacity = TABLES_AHEAD,
  ) {
    this.queue = new BoundedQueue(capacity);
  }

  get stats(): PipelineStats {
    const { tables, waits, waited: waitMilliseconds, firstWait: firstMilliseconds } = this;
    return { tables, waits, waitMilliseconds, firstMilliseconds };
  }

  /** Batches that are announced and not yet taken. */
  get waiting(): number {
    return this.queue.length;
  }

  /** Says which texts come next; waits while as many as the queue holds are ahead already. */
  async announce(rows: readonly Int32Array[]): Promise<void> {
    // Its prediction must not begin before there is room.
    let start: () => void = () => undefined;
    const started = new Promise<void>((resolve) => (start = resolve));
    const table = started.then(async () => hashTable(rows, await this.predictor.predict(rows)));
    const entry: Entry = { rows, table, ready: false };
    table.then(
      () => (entry.ready = true),
      () => undefined,
    );
    await this.queue.put(entry);
    start();
  }

  /** No more batches come. */
  end(): void {
    this.queue.end();
  }

  /** @throws Error if the next announced batch is another one, or there is none. */
  async tableFor(rows: readonly Int32Array[]): Promise<HashTable> {
    const begin = performance.now();
    const entry = await this.queue.take();
    if (!entry) throw new Error('no table is ahead for this pass: announce its texts first');
    if (!sameTexts(entry.rows, rows))
      throw new Error(
        'the next table is of other texts: passes must run in the order of their announcements',
      );
    const wasReady = entry.ready;
    const table = await entry.table;
    const milliseconds = performance.now() - begin;
    if (this.tables++ === 0) this.firstWait = milliseconds;
    else if (!wasReady) {
      this.waits++;
      this.waited += milliseconds;
    }
    return table;
  }
}

/** Whether batches hold the same tokens. */
function sameTexts(a: readonly Int32Array[], b: readonly Int32Array[]): boolean {
  return (
    a.length === b.length &&
    a.every((row, i) => row.length === b[i].length && row.every((token, t) => token === b[i][t]))
  );
}
