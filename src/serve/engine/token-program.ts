/**
 * All experts of one token in one program.
 * @module
 */
import { add, input, multiply, reshape, unstack } from '../../graph/index.js';
import type { ExpertBank } from '../../moe/index.js';
import { compile, type Program, type RuntimeOptions, type TensorData } from '../../runtime/index.js';
import type { ExpertLayerInfo, ExpertLease } from '../store/expert-store.js';
import { columnsInput, expertColumns, type ExpertWidths } from './expert-network.js';

/**
 * `Σ_k gates[k] · expert_k(row)` with the weights of `topK` experts as feeds: the decoding of one text runs one session a
 * layer instead of one an expert. The sum is added up in the order of the choices and in single precision, so that it is,
 * bit for bit, what the experts give one by one.
 */
export class TokenProgram {
  private constructor(private readonly program: Program) {}

  /** Compiles the program for experts of one shape. */
  static async open(
    bank: ExpertBank,
    info: ExpertLayerInfo,
    topK: number,
    { width }: ExpertWidths,
    runtime: RuntimeOptions,
  ): Promise<TokenProgram> {
    const columns = columnsInput(width, 1);
    const gates = unstack(input('gates', 'float32', [topK, 1, 1]));
    const [first, ...rest] = gates.map((gate, choice) =>
      multiply(
        expertColumns(bank, info, columns, (name) => feedOf(choice, name)),
        gate,
      ),
    );
    const combined = rest.reduce((sum, term) => add(sum, term), first);
    return new TokenProgram(await compile({ combined: reshape(combined, [-1]) }, runtime));
  }

  /**
   * @param leases in the order of the token's choices
   * @param row `[width]`
   * @param into `[outputWidth]`
   */
  async run(
    leases: readonly ExpertLease[],
    gates: Float32Array,
    row: Float32Array,
    into: Float32Array,
  ): Promise<void> {
    const feeds: Record<string, TensorData> = { columns: row, gates };
    leases.forEach(({ weights }, choice) => {
      for (const [name, data] of Object.entries(weights)) feeds[feedOf(choice, name)] = data;
    });
    this.program.bindOutput('combined', into);
    await this.program.run(feeds);
  }

  async release(): Promise<void> {
    await this.program.release();
  }
}

const feedOf = (choice: number, parameter: string): string => `${choice}.${parameter}`;
