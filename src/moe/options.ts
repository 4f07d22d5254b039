/**
 * Options that several parts of a sparse layer have in common.
 * @module
 */
import { z } from 'zod';
import { activations, type ActivationName } from './activations.js';

/** Name of an activation function. */
export const activationSchema = z.enum(Object.keys(activations) as [ActivationName, ...ActivationName[]]);
/** A width or a count. */
export const size = z.int().min(1);
/** A probability of dropping something. */
export const rate = z.number().min(0).lt(1);
/** Which blocks of a model are sparse: part of every kind of sparse layer. */
export const placement = {
  /** Every n-th block is sparse, counted from the end of each group of n: 2 makes blocks 1, 3, 5 … sparse. */
  every: size.default(1),
  /** Indices of the sparse blocks, instead of `every`; those of a decoder behind an encoder follow the encoder's. */
  layers: z.array(z.int().min(0)).min(1).optional(),
};
/** Weight of an auxiliary loss. */
export const coefficient = z.number().min(0);
/** Tokens that are treated together: the whole batch, or each sequence by itself. */
export const group = z.enum(['batch', 'sequence']).default('batch');
/** Factor of the balance loss: the paper's, or that of σ-MoE's code. */
export const balanceForm = z.enum(['paper', 'releasedSigmaMoe']).default('paper');
