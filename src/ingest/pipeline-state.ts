import type { AcedError } from '../base/errors.js';
import type { StreamState } from '../protocol/states.js';

/** Where a node's pipeline is: each change of it is logged with its reason. */
export type PipelineState =
  | { readonly kind: Exclude<StreamState, 'waiting'> }
  | { readonly kind: 'waiting'; readonly error: AcedError; readonly attempt: number };
