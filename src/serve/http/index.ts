/**
 * A served model behind OpenAI's API.
 * @module
 */
export { API_KEYS_VARIABLE, readApiKeys } from './api-keys.js';
export { HttpServer } from './http-server.js';
export {
  defaultHttpSettings,
  defaultRequestLimits,
  type HttpSettings,
  type RequestLimits,
} from './settings.js';
