/** Well before the server's limit, so that one late timer does not end the session. */
const STATUS_SHARE = 0.75;
/** An operator who looks at pg_stat_replication expects fresh positions, as from a standby. */
const MAX_STATUS_INTERVAL_MS = 10_000;

/**
 * How often to tell the server that we are alive, or null where it does not watch
 * (`wal_sender_timeout` 0). The server does ask for a sign of life too, but under back-pressure we
 * do not get to read the question: this must run on a timer of ours.
 */
export function statusIntervalMs(walSenderTimeoutMs: number): number | null {
  if (walSenderTimeoutMs <= 0) return null;
  return Math.min(walSenderTimeoutMs * STATUS_SHARE, MAX_STATUS_INTERVAL_MS);
}

export interface InboundSilence {
  /** Since anything at all arrived. */
  readonly silentMs: number;
  /** Since we asked for a sign of life and nothing arrived; null: nothing asked. */
  readonly unansweredMs: number | null;
  readonly timeoutMs: number;
  /** We do not read, so silence says nothing about the peer. */
  readonly isPaused: boolean;
}

/**
 * Whether the peer is still there. An idle server sends nothing for as long as our own status
 * updates please it, so silence alone proves nothing: after half the timeout it is asked (`probe`),
 * and only a question that stays unanswered for the whole timeout means that the connection is
 * `lost`. Without this, a peer whose host vanished would look idle for hours.
 */
export function judgeInbound(silence: InboundSilence): 'alive' | 'probe' | 'lost' {
  if (silence.isPaused) return 'alive';
  if (silence.unansweredMs !== null) {
    return silence.unansweredMs >= silence.timeoutMs ? 'lost' : 'alive';
  }
  return silence.silentMs >= silence.timeoutMs / 2 ? 'probe' : 'alive';
}
