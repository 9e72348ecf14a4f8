import { readFile } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { AcedError, errorMessage } from '../base/errors.js';
import { retryWhileLocked } from '../base/abort.js';
import { DaemonClient, sizeOfInput, type DaemonIdentity } from '../server/client.js';
import { MAX_DOCUMENT_CHARS } from '../protocol/params.js';
import type { Servers } from '../protocol/servers.js';
import type {
  CommandContext,
  CommandName,
  CommandResults,
  CommandRunner,
  ProgressEvent,
} from '../protocol/commands.js';
import type { AnyRequest, CommandRequest } from './commands.js';
import { usage, type FlagValues } from './flags.js';
import type { NameSource } from './complete.js';
import { answerCompletion } from './completion.js';
import { COMPLETE_WORD, SCRIPTS, SHELLS, isShell } from './completion-script.js';
import { clusterFile } from './cluster-file.js';
import { writeNewFile } from './new-file.js';
import { describeOutcome } from './outcome.js';
import { EXIT_DONE, EXIT_TROUBLE } from './outcome-lines.js';
import { parseCommandLine, type Parsed } from './parse.js';
import { intervalOf, repeat } from './repeat.js';
import { Terminal } from './terminal.js';
import type { OutputStream } from './terminal.js';
import { noDaemon, top, type Tty } from './top.js';

/** What the command line says about configuration. */
export interface CliFlags {
  readonly cluster?: string;
  readonly database?: string;
  readonly isDebug: boolean;
  /** By the names of the configuration's overrides. */
  readonly overrides: Readonly<Record<string, string>>;
}

export interface InProcessRunner extends CommandRunner {
  /** What is wrong with the configuration and not enough to end for. */
  readonly warnings?: readonly string[];
  close(): Promise<void>;
}

export interface CliOptions {
  /** Without the interpreter and the script. */
  readonly argv: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  /** For what draws on the whole terminal. */
  readonly tty: () => Tty;
  readonly cwd: string;
  readonly version: string;
  /** Cancels the command. */
  readonly signal?: AbortSignal;
  readonly locate: (flags: CliFlags) => Promise<{
    readonly cluster: string;
    /** Where a daemon may listen, likeliest first. */
    readonly socketPaths: readonly string[];
    /** The cluster as the files here define it; read when there is a daemon to compare with. */
    readonly servers: () => Servers | undefined;
  }>;
  readonly connectInProcess: (flags: CliFlags) => Promise<InProcessRunner>;
  readonly runDaemon: (flags: CliFlags) => Promise<void>;
  /** The configuration without secrets, and what was ignored, a sentence each. */
  readonly showConfig: (
    flags: CliFlags,
  ) => Promise<{ readonly config: unknown; readonly ignored: readonly string[] }>;
  /** Names of clusters that the files here define. */
  readonly definedClusters: () => readonly string[];
  /** A commented aced.yaml. */
  readonly configTemplate: () => Promise<string>;
}

/** Thrown by what a CliOptions has no part for: another program is to run the command line. */
export class StartOver extends Error {}

/** Runs one command line and returns the process's exit code. Errors: StartOver, nothing done yet. */
export async function runCli(options: CliOptions): Promise<number> {
  if (options.argv[0] === COMPLETE_WORD) {
    const asked = Number(options.env['ACED_COMPLETION_TIMEOUT_MS'] ?? '');
    const patienceMs = asked > 0 ? asked : NAMES_TIMEOUT_MS;
    const names = namesFor(options, patienceMs);
    const answer = await answerCompletion(options.argv.slice(1), { names, patienceMs });
    options.stdout.write(answer);
    return EXIT_DONE;
  }
  // Before the line is understood its own wishes cannot be known; errors look the same in all.
  let terminal = terminalFor(options, new Map([['json', options.argv.includes('--json')]]));
  try {
    const parsed = parseCommandLine(options.argv, options.stdout.columns);
    if (parsed.kind === 'help') {
      // Without a command nothing was done: no program must take that for an answer.
      (parsed.isAsked ? options.stdout : options.stderr).write(parsed.text);
      return parsed.isAsked ? EXIT_DONE : EXIT_TROUBLE;
    }
    if (parsed.kind === 'version') {
      terminal.text(`acectl ${options.version}\n`);
      return EXIT_DONE;
    }
    const { command, cluster, argument, flags } = parsed;
    terminal = terminalFor(options, flags);
    const cliFlags = cliFlagsOf(cluster, flags);
    switch (command.action.kind) {
      case 'listen':
        await options.runDaemon(withQuietLog(cliFlags, flags));
        return EXIT_DONE;
      case 'top':
        return await runTop(options, { flags, cliFlags, terminal });
      case 'show-config':
        return await showConfig(options, cliFlags, terminal);
      case 'config-init': {
        const path = flags.get('path');
        const content = await options.configTemplate();
        const file = { path: typeof path === 'string' ? path : 'aced.yaml', content };
        return writeNewFile(file, { flags, terminal, cwd: options.cwd });
      }
      case 'completion':
        terminal.text(completionScript(argument));
        return EXIT_DONE;
      case 'cluster-init':
        return writeNewFile(clusterFile(cluster, flags), { flags, terminal, cwd: options.cwd });
      case 'request': {
        const request = command.action.make({ flags, argument });
        const everyMs = intervalOf(flags);
        const locate: CliOptions['locate'] = (given) =>
          options.locate(given).catch((error: unknown) => {
            throw takenFor(parsed, error);
          });
        const run = (): Promise<number> =>
          execute(request, { options: { ...options, locate }, flags, cliFlags, terminal });
        if (everyMs === null) return await run();
        const signal = options.signal ?? new AbortController().signal;
        return await repeat(everyMs, signal, () =>
          run().catch((error: unknown) => {
            if (error instanceof StartOver) throw error;
            if (!signal.aborted) printError(terminal, error);
            return EXIT_TROUBLE;
          }),
        );
      }
    }
  } catch (error) {
    if (error instanceof StartOver) throw error;
    printError(terminal, error);
    return EXIT_TROUBLE;
  }
}

/** Errors: BAD_USAGE. */
function completionScript(shell: string): string {
  if (isShell(shell)) return SCRIPTS[shell];
  throw usage(`there is no completion for ${shell}`, `Name one of ${SHELLS.join(', ')}.`);
}

/** Of a daemon that has little time for an answer; else what the files here say. */
function namesFor({ locate, definedClusters }: CliOptions, patienceMs: number): NameSource {
  return {
    clusters: definedClusters,
    namesOf: async (cluster) => {
      const location = await locate({
        ...(cluster === undefined ? {} : { cluster }),
        isDebug: false,
        overrides: {},
      });
      const daemon = await DaemonClient.find(location.socketPaths).catch(() => null);
      const signal = AbortSignal.timeout(patienceMs);
      const answer = await daemon?.run('names', {}, { signal, reportDir: '' }).catch(() => null);
      if (answer != null) return answer;
      return { nodes: Object.keys(location.servers() ?? {}), tables: [], incidents: [] };
    },
  };
}

/** How long completion waits for a daemon; ACED_COMPLETION_TIMEOUT_MS wins. */
const NAMES_TIMEOUT_MS = 700;

/** `table-diff prod`: with one argument too few, what was meant for the cluster is the table. */
function takenFor(
  { command, argument }: Extract<Parsed, { kind: 'command' }>,
  error: unknown,
): unknown {
  const isCluster = error instanceof AcedError && error.code === 'UNKNOWN_CLUSTER';
  if (!isCluster || argument === '') return error;
  const message = `${error.message}: ${argument} was taken for ${command.argument ?? ''}`;
  const { hint } = error;
  return new AcedError(error.code, message, hint === undefined ? {} : { hint });
}

/** For a person on stderr; with --json for a program on stdout too, with the code. */
export function printError(terminal: Pick<Terminal, 'urgent' | 'jsonError'>, error: unknown): void {
  const message = errorMessage(error);
  const { code, hint = null } = error instanceof AcedError ? error : { code: 'INTERNAL' };
  terminal.urgent('ERROR', message);
  if (hint !== null) terminal.urgent('HINT', hint);
  terminal.jsonError({ code, message, hint });
}

/** Another acectl, or a daemon that starts, has the state mostly for less. */
const LOCK_WAIT_MS = 10_000;

interface Execution {
  readonly options: CliOptions;
  readonly flags: FlagValues;
  readonly cliFlags: CliFlags;
  readonly terminal: Terminal;
}

async function execute(request: AnyRequest, execution: Execution): Promise<number> {
  const { flags, terminal } = execution;
  const result = await runAnywhere(request, execution);
  terminal.done();
  const { lines, exitCode } = describeOutcome(request.name, result);
  if (flags.get('json') === true) terminal.json(result);
  // With --json the object says it all.
  else lines.forEach((line) => terminal.line(line));
  if (exitCode === EXIT_TROUBLE && flags.get('quiet') === true) {
    // Trouble without a word would look like a crash.
    const warnings = lines.filter(({ level }) => level === 'warn');
    warnings.forEach(({ text }) => terminal.urgent('WARN', text));
  }
  return exitCode;
}

/** The one place that decides: in the daemon where there is one, else in this process. */
async function runAnywhere<Name extends CommandName>(
  request: CommandRequest<Name>,
  { options, cliFlags, terminal }: Execution,
): Promise<CommandResults[Name]> {
  const { name, inputFile } = request;
  const { cwd } = options;
  const work = {
    signal: options.signal ?? new AbortController().signal,
    reportDir: cwd,
    ...(inputFile === undefined
      ? {}
      : { inputPath: resolve(cwd, inputFile), inputName: basename(inputFile) }),
  };
  let progress: ProgressEvent | undefined;
  const show = (event: ProgressEvent): void => {
    if (event.type === 'progress') progress = event;
    terminal.event(event);
  };
  // Before anybody is connected to.
  if (work.inputPath !== undefined) await sizeOfInput(work.inputPath);
  try {
    return await runWith(await withPlan(request, cwd), { options, cliFlags, work, show });
  } catch (error) {
    throw name === 'table-repair' ? interrupted(error, progress) : error;
  }
}

/** The daemon cannot read the user's files: the plan's text goes with the request. */
async function withPlan<Name extends CommandName>(
  request: CommandRequest<Name>,
  cwd: string,
): Promise<CommandRequest<Name>> {
  const { planFile, params } = request;
  if (planFile === undefined) return request;
  try {
    const repairPlan = await readFile(resolve(cwd, planFile), 'utf8');
    if (repairPlan.length > MAX_DOCUMENT_CHARS) throw new RangeError('it is longer than 1 MiB');
    return { ...request, params: { ...params, repairPlan } };
  } catch (error) {
    throw new AcedError('BAD_USAGE', `the repair plan ${planFile}: ${errorMessage(error)}`, {
      hint: 'Give the path of a plan in YAML or JSON.',
    });
  }
}

interface Run {
  readonly options: CliOptions;
  readonly cliFlags: CliFlags;
  readonly work: Pick<CommandContext, 'signal' | 'reportDir' | 'inputPath' | 'inputName'>;
  readonly show: (event: ProgressEvent) => void;
}

async function runWith<Name extends CommandName>(
  { name, params }: CommandRequest<Name>,
  { options, cliFlags, work, show }: Run,
): Promise<CommandResults[Name]> {
  const location = await options.locate(cliFlags);
  // Who has the lock may be a daemon that starts: it is looked for again each time.
  const place = await retryWhileLocked(
    async () => {
      const { socketPaths } = location;
      const daemon = await DaemonClient.find(socketPaths, () => identity(location, cliFlags));
      return daemon ?? (await options.connectInProcess(cliFlags));
    },
    { forMs: LOCK_WAIT_MS, signal: work.signal },
  ).catch((error: unknown) => {
    throw lockedBehind(location.socketPaths, error);
  });
  if (place instanceof DaemonClient) return place.run(name, params, { ...work, onEvent: show });
  const runner = place;
  runner.warnings?.forEach((message) => show({ type: 'log', level: 'warn', message }));
  try {
    return await runner.run(name, params, { ...work, emit: show });
  } finally {
    await runner.close();
  }
}

/** Who has the lock is mostly a daemon that listens elsewhere: `--socket` or ACED_SOCKET is wrong. */
function lockedBehind(socketPaths: readonly string[], error: unknown): unknown {
  if (!(error instanceof AcedError) || error.code !== 'STATE_LOCKED') return error;
  const message = `${error.message}, and no aced listens on ${socketPaths.join(' or ')}`;
  return new AcedError('STATE_LOCKED', message, {
    hint: 'If it is an aced, give its socket as --socket or in ACED_SOCKET; else wait for its end.',
    cause: error,
  });
}

async function runTop(
  options: CliOptions,
  { flags, cliFlags, terminal }: Omit<Execution, 'options'>,
): Promise<number> {
  const location = await options.locate(cliFlags);
  const { cluster, socketPaths } = location;
  return top({
    flags,
    env: options.env,
    tty: options.tty(),
    signal: options.signal ?? new AbortController().signal,
    print: (text) => terminal.text(text),
    printJson: (value) => terminal.json(value),
    ask: async (params, signal) => {
      const daemon = await DaemonClient.find(socketPaths, () => identity(location, cliFlags));
      if (daemon === null) throw noDaemon(cluster, socketPaths);
      return daemon.run('top', params, { signal, reportDir: options.cwd });
    },
  });
}

/** A repair that was cancelled has written whole batches, which nobody is told of otherwise. */
function interrupted(error: unknown, progress: ProgressEvent | undefined): unknown {
  if (!(error instanceof AcedError) || error.code !== 'CANCELLED') return error;
  const how =
    progress?.type === 'progress'
      ? `: ${progress.phase}, ${progress.done} of ${progress.total} done`
      : '';
  return new AcedError('CANCELLED', `cancelled${how}`, {
    hint: 'What was written stays, in whole batches. Run the same repair again: it goes on with the rest.',
    cause: error,
  });
}

/** Whom the user means, by the command line and by the files here. */
function identity(
  { cluster, servers }: Awaited<ReturnType<CliOptions['locate']>>,
  { database }: CliFlags,
): DaemonIdentity {
  const defined = servers();
  return {
    cluster,
    ...(database === undefined ? {} : { database }),
    ...(defined === undefined ? {} : { servers: defined }),
  };
}

async function showConfig(
  options: CliOptions,
  flags: CliFlags,
  terminal: Terminal,
): Promise<number> {
  const { config, ignored } = await options.showConfig(flags);
  terminal.json(config);
  ignored.forEach((text) => terminal.urgent('WARN', text));
  return EXIT_DONE;
}

function terminalFor({ stdout, stderr, env }: CliOptions, flags: FlagValues): Terminal {
  return new Terminal({
    stdout,
    stderr,
    env,
    isJson: flags.get('json') === true,
    isQuiet: flags.get('quiet') === true,
  });
}

/** The daemon's log is what it prints. */
function withQuietLog(cliFlags: CliFlags, flags: FlagValues): CliFlags {
  if (flags.get('quiet') !== true || cliFlags.isDebug) return cliFlags;
  return { ...cliFlags, overrides: { ...cliFlags.overrides, logLevel: 'error' } };
}

function cliFlagsOf(cluster: string | undefined, flags: FlagValues): CliFlags {
  const textOf = (flag: string): string | undefined => {
    const value = flags.get(flag);
    return typeof value === 'string' ? value : undefined;
  };
  const isDebug = flags.get('debug') === true;
  const [database, socket, stateDir] = ['dbname', 'socket', 'state-dir'].map(textOf);
  return {
    ...(cluster === undefined ? {} : { cluster }),
    ...(database === undefined ? {} : { database }),
    isDebug,
    overrides: {
      ...(socket === undefined ? {} : { socket }),
      ...(stateDir === undefined ? {} : { stateDir }),
      ...(isDebug ? { logLevel: 'debug' } : {}),
    },
  };
}
