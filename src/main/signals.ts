const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

const INTERRUPTED_EXIT_CODE = 2;

export interface Cancellation {
  readonly signal: AbortSignal;
  /** Gives the signals back to their default: they end the process. */
  release(): void;
}

/** The first SIGINT or SIGTERM asks the work to end cleanly; the second ends the process at once. */
export function cancelOnSignals(exitCode = INTERRUPTED_EXIT_CODE): Cancellation {
  const controller = new AbortController();
  const onSignal = (): void => {
    if (controller.signal.aborted) process.exit(exitCode);
    controller.abort();
  };
  for (const name of SIGNALS) process.on(name, onSignal);
  return {
    signal: controller.signal,
    release: () => {
      for (const name of SIGNALS) process.off(name, onSignal);
    },
  };
}
