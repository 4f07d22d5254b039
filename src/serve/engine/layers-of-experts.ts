/**
 * The layers of a model whose experts can be computed by themselves, in the order in which a pass meets them.
 * @module
 */
import type { Model } from '../../models/index.js';
import { SparseLayer, StratifiedLayer, type ExpertBank } from '../../moe/index.js';
import { Module } from '../../nn/index.js';

/** A layer of experts in a model. */
export interface LayerOfExperts {
  /** Dotted name of the bank. */
  readonly name: string;
  readonly bank: ExpertBank & Module;
  /** The layer, where it makes one decision by one router; undefined for layers of several gates. */
  readonly sparse: SparseLayer | undefined;
}

/**
 * The layers of experts of a model; none in a dense one.
 * @throws Error naming a layer whose experts cannot be computed by themselves.
 */
export function layersOfExperts(model: Model): readonly LayerOfExperts[] {
  return [...model.submodules()].flatMap(([path, layer]): LayerOfExperts[] => {
    if (!(layer instanceof SparseLayer || layer instanceof StratifiedLayer)) return [];
    const [bank, name] = [layer.experts, `${path}.experts`];
    if (!(bank instanceof Module && bank.columns))
      throw new Error(`${name} cannot be computed one by one: its kind of bank has no expert by itself`);
    return [{ name, bank, sparse: layer instanceof SparseLayer ? layer : undefined }];
  });
}
