import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** Length and protocol version. */
const HEADER_BYTES = 8;

/**
 * A proxy that leaves one parameter out of the start-up packet, as PgBouncer does with those of
 * `ignore_startup_parameters`; everything after it passes as it is.
 */
export class StartupProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(
    target: { host: string; port: number },
    ignored: string,
  ): Promise<StartupProxy> {
    const server = createServer();
    const proxy = new StartupProxy(server);
    server.on('connection', (inbound) => {
      const outbound = connect(target.port, target.host);
      for (const socket of [inbound, outbound]) {
        proxy.#sockets.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => (socket === inbound ? outbound : inbound).destroy());
      }
      outbound.pipe(inbound);
      inbound.once('data', (packet) => {
        outbound.write(without(packet, ignored));
        inbound.pipe(outbound);
      });
    });
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }
}

/** The packet is names and values, each ended by a NUL, and a NUL. */
function without(packet: Buffer, ignored: string): Buffer {
  const fields = packet.subarray(HEADER_BYTES, -2).toString().split('\0');
  const kept: string[] = [];
  for (let at = 0; at + 1 < fields.length; at += 2) {
    if (fields[at] !== ignored) kept.push(fields[at] ?? '', fields[at + 1] ?? '');
  }
  const body = Buffer.from(`${kept.join('\0')}\0\0`);
  const header = Buffer.from(packet.subarray(0, HEADER_BYTES));
  header.writeUInt32BE(HEADER_BYTES + body.length, 0);
  return Buffer.concat([header, body]);
}
