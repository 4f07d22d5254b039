/**
 * Experts of a compressed model: centres stay in memory, and only what an expert has beside its centre is read.
 * @module
 */
import {
  addMatrix,
  designWidth,
  type Checkpoint,
  type CompressedMatrix,
  type LayerReader,
  type RestoringSource,
} from '../../../checkpoints/index.js';
import { add, input, matmul } from '../../../graph/index.js';
import { compile, type Program } from '../../../runtime/index.js';
import type { ColdExperts, ColdLayer, ColdTraits } from '../cold-experts.js';
import { liesTransposed } from '../expert-banks.js';
import type { ExpertLayerInfo } from '../expert-store.js';
import type { Slot } from '../slot-memory.js';
import { CheckpointExperts } from './checkpoint-experts.js';
import { copyColumns, storedBytes } from './columns.js';

/** Parts of a design matrix by the parameters that they are; biases of outputs belong to no neuron. */
const roles = ['gate', 'up', 'upBias', 'down'] as const;

/** A layer that is stored compressed. */
interface ResidualLayer {
  readonly reader: LayerReader;
  readonly centre: Float32Array | undefined;
}

/**
 * Rebuilds each expert in its place: the centre and the residual that was read (ResMoE, arXiv 2503.06881, by the rule of
 * §8 of its spec: never the sum of two networks). Layers that are not compressed are read by range.
 */
export class ResidualExperts implements ColdExperts {
  readonly layers: readonly ColdLayer[];
  readonly slotBytes: number;
  readonly traits: ColdTraits;
  /** Of low rank times low rank, for each width of a design. */
  private readonly programs = new Map<string, Program<'design'>>();
  /** One expert as it is rebuilt. */
  private design = new Float32Array(0);
  private last: Promise<void> = Promise.resolve();

  private constructor(
    private readonly whole: CheckpointExperts,
    private readonly residuals: ReadonlyMap<number, ResidualLayer>,
  ) {
    this.layers = whole.layers;
    this.slotBytes = whole.slotBytes;
    const centres = [...residuals.values()].map(({ centre }) => centre?.byteLength ?? 0);
    this.traits = {
      description: 'compressed folder, residuals by range',
      pageCache: 'used',
      reason: 'residuals are of different sizes and do not lie on blocks',
      residentBytes: centres.reduce((a, b) => a + b, 0),
    };
  }

  /**
   * Reads the centres.
   * @param checkpoint of a compressed folder; it is closed with this.
   */
  static async open(
    checkpoint: Checkpoint,
    source: RestoringSource,
    layers: readonly ExpertLayerInfo[],
  ): Promise<ResidualExperts> {
    const residuals = new Map<number, ResidualLayer>();
    for (const [index, { name }] of layers.entries()) {
      const reader = source.layers.get(name.replace(/\.feedForward\.experts$/, ''));
      if (reader) residuals.set(index, { reader, centre: await reader.readCentre() });
    }
    return new ResidualExperts(new CheckpointExperts(checkpoint, layers), residuals);
  }

  async read(layer: number, expert: number, slot: Slot): Promise<number> {
    const found = this.residuals.get(layer);
    if (!found) return this.whole.read(layer, expert, slot);
    const { reader, centre } = found;
    const { expertOf, dtype, outputBiases } = reader.header;
    const stored = expertOf[expert];
    if (stored < 0) {
      slot.data.fill(0);
      return 0;
    }
    const [matrices, biases] = await Promise.all([
      reader.readMatrices(stored),
      outputBiases ? reader.readOutputBiases(expert) : undefined,
    ]);
    await this.alone(async () => {
      await this.rebuild(reader, matrices, centre);
      this.scatter(layer, reader, slot.data);
    });
    const bias = this.layers[layer].placed.find(({ name }) => name === 'downBias');
    if (bias && biases) slot.data.set(biases, bias.offset);
    const width = dtype === 'F32' ? 4 : 2;
    return matrices.reduce((sum, matrix) => sum + storedBytes(matrix, width), (biases?.length ?? 0) * width);
  }

  async close(): Promise<void> {
    for (const program of this.programs.values()) await program.release();
    await this.whole.close();
  }

  /** Runs work that needs {@link design} for itself. */
  private alone(work: () => Promise<void>): Promise<void> {
    const done = this.last.then(work);
    this.last = done.catch(() => undefined);
    return done;
  }

  /** Centre plus matrices, into {@link design}. */
  private async rebuild(
    { header, blocks }: LayerReader,
    matrices: readonly CompressedMatrix[],
    centre: Float32Array | undefined,
  ): Promise<void> {
    const stride = designWidth(blocks);
    const size = header.intermediateSize * stride;
    const [only] = matrices;
    const program =
      centre && matrices.length === 1 && only.kind === 'lowRank'
        ? await this.programOf(only.rows, only.columns)
        : undefined;
    if (this.design.length !== size) this.design = new Float32Array(size);
    if (program && only.kind === 'lowRank') {
      const { design } = await program.run({ centre: centre!, left: only.left, right: only.right });
      this.design.set(design as Float32Array);
      return;
    }
    if (centre) this.design.set(centre);
    else this.design.fill(0);
    let begin = 0;
    for (const matrix of matrices) {
      addMatrix(matrix, this.design, { stride, begin });
      begin += matrix.columns;
    }
  }

  private async programOf(rows: number, columns: number): Promise<Program<'design'>> {
    const key = `${rows} ${columns}`;
    let program = this.programs.get(key);
    if (!program) {
      const left = input('left', 'float32', [rows, 'rank']);
      const right = input('right', 'float32', ['rank', columns]);
      const design = add(input('centre', 'float32', [rows, columns]), matmul(left, right));
      this.programs.set(key, (program = await compile({ design }, {})));
    }
    return program;
  }

  private scatter(layer: number, { blocks, header }: LayerReader, data: Float32Array): void {
    const info = this.layers[layer];
    const stride = designWidth(blocks);
    const rows = header.intermediateSize;
    for (const role of roles) {
      const at = blocks.findIndex((block) => block.role === role);
      const place = info.placed.find(({ name }) => name === role);
      if (at < 0 || !place) continue;
      const begin = designWidth(blocks.slice(0, at));
      const { width } = blocks[at];
      const into = data.subarray(place.offset, place.offset + place.length);
      // A row of a design is a neuron: `[out, in]` of what goes into it, `[in, out]` of what comes out.
      const isTurned = (role === 'down') === liesTransposed(info, role);
      copyColumns(this.design, into, { rows, stride, begin, width }, isTurned);
    }
  }
}
