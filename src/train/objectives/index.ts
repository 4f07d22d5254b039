/**
 * The objective of every kind of model.
 * @module
 */
import { Classifier, EncoderDecoder, type Model } from '../../models/index.js';
import type { Objective } from '../objective.js';
import { languageModelling } from './language-modelling.js';
import { sequenceToSequence } from './sequence-to-sequence.js';

/**
 * What a model is trained for.
 * @throws RangeError for classifiers, which have no objective yet.
 */
export function objectiveOf(model: Model): Objective {
  if (model instanceof Classifier) throw new RangeError('classifiers have no objective yet');
  return model instanceof EncoderDecoder ? sequenceToSequence(model) : languageModelling(model);
}
