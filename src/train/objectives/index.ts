/**
 * The objective of every kind of model.
 * @module
 */
import { Classifier, EncoderDecoder, type Model } from '../../models/index.js';
import type { Objective } from '../objective.js';
import { classification } from './classification.js';
import { languageModelling } from './language-modelling.js';
import { sequenceToSequence } from './sequence-to-sequence.js';

/** What a model is trained for. */
export function objectiveOf(model: Model): Objective {
  if (model instanceof Classifier) return classification(model);
  return model instanceof EncoderDecoder ? sequenceToSequence(model) : languageModelling(model);
}
