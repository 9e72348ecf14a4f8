import type { Socket } from 'node:net';
import { nativeAddon } from '../base/native.js';

/**
 * The user id of the process at the other end of a unix socket (SO_PEERCRED: it was connected by that
 * user, and nothing that it says can change it). Null: the system, or this build, does not tell.
 */
export function peerUidOf(socket: Socket): number | null {
  const handle: unknown = Reflect.get(socket, '_handle');
  if (typeof handle !== 'object' || handle === null || !('fd' in handle)) return null;
  const { fd } = handle;
  if (typeof fd !== 'number' || fd < 0) return null;
  return nativeAddon()?.peerUid?.(fd) ?? null;
}
