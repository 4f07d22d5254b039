/**
 * A served model behind OpenAI's API.
 * @module
 */
export { API_KEYS_VARIABLE, readApiKeys } from './api-keys.js';
export { HttpServer } from './http-server.js';
export { defaultHttpSettings, defaultLimits, type HttpSettings, type RequestLimits } from './settings.js';
