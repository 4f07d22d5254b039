/**
 * The experts of a layer of a checkpoint, read one at a time as design matrices.
 * @module
 */
import { quote } from '../safetensors/index.js';
import { readFloats, type TensorSource } from '../tensors/index.js';
import { CompressedFormatError } from './errors.js';
import {
  checkExpertTensors,
  EXPERT,
  gatherDesign,
  sliceOf,
  type ExpertShape,
  type ExpertTensor,
} from './expert-tensors.js';
import { compressedDTypes, type CompressedDType } from './header.js';
import { designWidth, type ColumnBlock } from './layer.js';

/** Where the experts of one layer lie. */
export interface LayerLayout extends ExpertShape {
  /** Of the layer's block: `blocks.3`, `encoder.blocks.1`. */
  readonly name: string;
  readonly tensors: readonly ExpertTensor[];
}

/** See the module. */
export class StoredExperts {
  readonly name: string;
  readonly numExperts: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly blocks: readonly ColumnBlock[];
  /** Element type of all their tensors. */
  readonly dtype: CompressedDType;
  /** `[hiddenSize]` per expert, where there are any. */
  readonly outputBiases?: readonly Float32Array[];

  private constructor(
    private readonly source: TensorSource,
    private readonly layout: LayerLayout,
    outputBiases: readonly Float32Array[] | undefined,
  ) {
    this.name = layout.name;
    this.numExperts = layout.numExperts;
    this.hiddenSize = layout.hiddenSize;
    this.intermediateSize = layout.intermediateSize;
    this.blocks = layout.blocks;
    this.dtype = dtypeOf(source, layout);
    if (outputBiases) this.outputBiases = outputBiases;
  }

  /**
   * Opens the experts; only their output biases are read.
   * @throws CompressedFormatError if the layout does not hold all experts once, or in an element type that cannot be
   *   written again.
   */
  static async open(source: TensorSource, layout: LayerLayout): Promise<StoredExperts> {
    const biased = layout.tensors.find(({ parts }) => parts.some(({ role }) => role === 'outputBias'));
    const wrong = checkExpertTensors(layout.tensors, layout, biased !== undefined);
    if (wrong !== undefined)
      throw new CompressedFormatError(source.location, `layer ${layout.name}: ${wrong}`);
    if (!biased) return new StoredExperts(source, layout, undefined);
    const biases: Float32Array[] = [];
    for (let expert = 0; expert < layout.numExperts; expert++) {
      const bias = new Float32Array(layout.hiddenSize);
      const design = new Float32Array(layout.intermediateSize * designWidth(layout.blocks));
      gatherDesign(biased, await readSlice(source, biased, expert), layout.blocks, design, bias);
      biases.push(bias);
    }
    return new StoredExperts(source, layout, biases);
  }

  /**
   * The design matrix of one expert, `[intermediateSize, width]`.
   * @param into where to write it; a new array when absent.
   */
  async readDesign(
    expert: number,
    into = new Float32Array(this.intermediateSize * designWidth(this.blocks)),
  ): Promise<Float32Array> {
    for (const tensor of this.layout.tensors) {
      gatherDesign(tensor, await readSlice(this.source, tensor, expert), this.blocks, into);
    }
    return into;
  }
}

async function readSlice(source: TensorSource, tensor: ExpertTensor, expert: number): Promise<Float32Array> {
  const name = tensor.name.replaceAll(EXPERT, String(expert));
  if (tensor.name.includes(EXPERT)) return readFloats(source, name);
  const [rows, columns] = sliceOf(tensor);
  const into = new Float32Array(rows * columns);
  return readFloats(source, name, { rows: [expert, expert + 1], into });
}

function dtypeOf(source: TensorSource, { name: layer, tensors, numExperts }: LayerLayout): CompressedDType {
  const found = new Set<string>();
  for (const { name } of tensors) {
    for (let expert = 0; expert < (name.includes(EXPERT) ? numExperts : 1); expert++) {
      const tensor = name.replaceAll(EXPERT, String(expert));
      const info = source.tensors.get(tensor);
      if (!info)
        throw new CompressedFormatError(
          source.location,
          `layer ${layer}: there is no tensor ${quote(tensor)}`,
        );
      found.add(info.dtype);
    }
  }
  const [dtype, ...others] = found;
  const known = compressedDTypes.find((one) => one === dtype);
  if (known === undefined || others.length > 0)
    throw new CompressedFormatError(
      source.location,
      `layer ${layer}: its experts are stored as ${[...found].join(' and ')}; one of ${compressedDTypes.join(', ')} is needed`,
    );
  return known;
}
