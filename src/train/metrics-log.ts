/**
 * `metrics.jsonl`: one JSON object a line, appended as the run goes.
 * @module
 */
import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { explain, type JsonObject } from '../checkpoints/index.js';
import { RunFolderError } from './run-folder-error.js';

/** One line: the step it belongs to, and anything else. */
export interface MetricsRecord extends JsonObject {
  readonly step: number;
}

/**
 * The open log of a run.
 *
 * Write all lines of a step before its checkpoint is saved: a run that resumes at a step keeps every line up to it
 * and drops the rest, so that its log equals that of an uninterrupted run.
 */
export class MetricsLog {
  private size: number;
  private step: number;

  private constructor(
    readonly path: string,
    private readonly descriptor: number,
    { size, step }: { size: number; step: number },
  ) {
    this.size = size;
    this.step = step;
  }

  /**
   * Opens a log, or creates it. A torn last line, as a crash leaves it, is cut off.
   * @throws RunFolderError `system`; `invalid`, naming a line that is not a record.
   */
  static open(path: string): MetricsLog {
    let descriptor: number;
    try {
      descriptor = openSync(path, 'a+');
    } catch (error) {
      throw new RunFolderError('system', `cannot write ${path}: ${explain(error)}`, { cause: error });
    }
    try {
      const { size, step } = lastWhere(readRecords(path, descriptor), () => true);
      if (size < fstatSync(descriptor).size) ftruncateSync(descriptor, size);
      return new MetricsLog(path, descriptor, { size, step });
    } catch (error) {
      closeSync(descriptor);
      if (error instanceof RunFolderError) throw error;
      throw new RunFolderError('system', `cannot read ${path}: ${explain(error)}`, { cause: error });
    }
  }

  /**
   * Appends a line. Numbers that are not finite are written as null.
   *
   * @throws RangeError if the step is less than that of the line before.
   * @throws RunFolderError `system`; the log then ends as it did before.
   */
  append(record: MetricsRecord): void {
    const { step } = record;
    if (!Number.isSafeInteger(step) || step < this.step)
      throw new RangeError(`a record of step ${step} cannot follow one of step ${this.step} in ${this.path}`);
    const bytes = Buffer.from(`${JSON.stringify(record)}\n`);
    try {
      for (let done = 0; done < bytes.length;) done += writeSync(this.descriptor, bytes, done);
    } catch (error) {
      ftruncateSync(this.descriptor, this.size);
      throw new RunFolderError('system', `cannot write ${this.path}: ${explain(error)}`, { cause: error });
    }
    this.size += bytes.length;
    this.step = step;
  }

  /**
   * Drops all lines past a step, at once: a reader sees the log either before or after.
   * @throws RunFolderError `system`.
   */
  truncateAfter(step: number): void {
    const kept = lastWhere(readRecords(this.path, this.descriptor), (record) => record.step <= step);
    if (kept.size === this.size) return;
    try {
      ftruncateSync(this.descriptor, kept.size);
    } catch (error) {
      throw new RunFolderError('system', `cannot write ${this.path}: ${explain(error)}`, { cause: error });
    }
    this.size = kept.size;
    this.step = kept.step;
    this.sync();
  }

  /** Makes all lines so far durable. */
  sync(): void {
    try {
      fsyncSync(this.descriptor);
    } catch (error) {
      throw new RunFolderError('system', `cannot write ${this.path}: ${explain(error)}`, { cause: error });
    }
  }

  /** Closes the file. */
  close(): void {
    closeSync(this.descriptor);
  }
}

/**
 * All records of a log, which another process may be writing. A torn last line is left out; a log that does not exist
 * has no records.
 * @throws RunFolderError `system`; `invalid`, naming a line that is not a record.
 */
export function readMetrics(path: string): MetricsRecord[] {
  let descriptor: number;
  try {
    descriptor = openSync(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new RunFolderError('system', `cannot read ${path}: ${explain(error)}`, { cause: error });
  }
  try {
    return Array.from(readRecords(path, descriptor), ({ record }) => record);
  } finally {
    closeSync(descriptor);
  }
}

interface PlacedRecord {
  readonly record: MetricsRecord;
  /** Byte after the line. */
  readonly end: number;
}

/** End and step of the last record before the first that fails a test. */
function lastWhere(
  records: Iterable<PlacedRecord>,
  test: (record: MetricsRecord) => boolean,
): { size: number; step: number } {
  let last = { size: 0, step: 0 };
  for (const { record, end } of records) {
    if (!test(record)) break;
    last = { size: end, step: record.step };
  }
  return last;
}

/** Records of an open log, read in pieces. */
function* readRecords(path: string, descriptor: number): Generator<PlacedRecord> {
  const { size } = fstatSync(descriptor);
  const piece = Buffer.allocUnsafe(1 << 20);
  let rest = Buffer.alloc(0);
  let end = 0;
  for (let line = 1, position = 0; ;) {
    const read = readSync(descriptor, piece, 0, piece.length, position);
    // What is left without a newline is a torn line.
    if (read === 0) return;
    position += read;
    const bytes = Buffer.concat([rest, piece.subarray(0, read)]);
    let start = 0;
    for (let newline; (newline = bytes.indexOf(0x0a, start)) !== -1; start = newline + 1, line++) {
      end += newline + 1 - start;
      const record = parseRecord(bytes.toString('utf8', start, newline));
      if (record) yield { record, end };
      // A power cut may leave a last line of the right length without its content.
      else if (end >= size) return;
      else throw new RunFolderError('invalid', `${path}: line ${line} is not a JSON object with a step`);
    }
    rest = Buffer.from(bytes.subarray(start));
  }
}

function parseRecord(text: string): MetricsRecord | undefined {
  try {
    const value = JSON.parse(text) as { step?: unknown } | null;
    return typeof value === 'object' && Number.isSafeInteger(value?.step)
      ? (value as MetricsRecord)
      : undefined;
  } catch {
    return undefined;
  }
}
